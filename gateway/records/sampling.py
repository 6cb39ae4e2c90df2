"""Which predictions are recorded: decided by the hash of their nonce, so that all records of one agree."""

from collections.abc import Callable
from typing import Final

import orjson

from gateway.errors import InvalidRequest
from gateway.records.token import Signer

SHARE_RESOLUTION: Final = 1 << 20
_SPREAD: Final = 0x9E37_79B9_7F4A_7C15  # Knuth's multiplicative hash, from the golden ratio
_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF


def sample_share(nonce: int) -> int:
    """Where a prediction stands among `SHARE_RESOLUTION`: it is recorded where that is below the sample."""
    return ((nonce * _SPREAD) & _MASK) >> 44


def sample_filter(signer: Signer, sample: float) -> Callable[[bytes], bytes]:
    """Picks the lines of feedback whose predictions are recorded."""
    threshold = round(sample * SHARE_RESOLUTION)

    def select(lines: bytes) -> bytes:
        if threshold == SHARE_RESOLUTION:
            return lines
        return b"".join(
            line for line in lines.splitlines(keepends=True) if sample_share(_nonce(signer, line)) < threshold
        )

    return select


def _nonce(signer: Signer, line: bytes) -> int:
    try:
        return signer.read(orjson.loads(line)["prediction_id"]).nonce
    except InvalidRequest:
        return 0
