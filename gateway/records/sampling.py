"""Decides which predictions are recorded, by a hash of the nonce: a prediction and its feedback share one decision."""

from collections.abc import Callable
from typing import Final

import orjson

from gateway.errors import InvalidRequest
from gateway.records.token import Signer

SHARES: Final = 1 << 20
_SPREAD: Final = 0x9E37_79B9_7F4A_7C15  # Knuth's multiplicative hash, from the golden ratio
_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF


def share_of(nonce: int) -> int:
    """Hash a nonce to 0 .. SHARES - 1; the prediction is recorded if that is below records.sample * SHARES."""
    return ((nonce * _SPREAD) & _MASK) >> 44


def sampled_lines(signer: Signer, sample: float) -> Callable[[bytes], bytes]:
    """Return a filter that keeps the feedback lines whose predictions are recorded. `sample`: a share from 0 to 1."""
    threshold = round(sample * SHARES)

    def select(lines: bytes) -> bytes:
        if threshold == SHARES:
            return lines
        return b"".join(line for line in lines.splitlines(keepends=True) if share_of(_nonce(signer, line)) < threshold)

    return select


def _nonce(signer: Signer, line: bytes) -> int:
    try:
        return signer.read(orjson.loads(line)["prediction_id"]).nonce
    except InvalidRequest:
        return 0
