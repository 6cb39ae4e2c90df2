"""Prediction ids: signed tokens that carry all that feedback needs of its prediction, so that nothing is looked up.

Any worker of any gateway with the same keys can credit feedback to the right version, variant, route and weight.

    layout   key number (1 byte), time (8, ns since 1970), nonce (8), predicted class (4), weight and flags (4),
             bucket (4), version (4), model and route (UTF-8, a NUL between them), if one class does not say all that is
             predicted a NUL and the rest (carried.py), MAC (8: keyed BLAKE2b)

The flags hold a mark of the release's epoch, so that attribution to an epoch does not depend on a clock, which may be
set. The encoding is URL-safe Base64 without padding: about 75 characters, for several rows up to 700 more.
A forger has one chance in 2^64 per request to guess the 64-bit MAC.
"""

import hashlib
import itertools
import secrets
import struct
import time
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.records.carried import Carried, decoded
from gateway.routing.release import Decision, Variant

MAC_BYTES: Final = 8
SEVERAL_ROWS: Final = -2  # instead of a class: the request had several rows
NO_BUCKET: Final = 0xFFFF_FFFF
CARRIED: Final = b"\0"  # between the route and what is carried
MAX_TOKEN_LENGTH: Final = 1024 + 700  # characters; names and what is carried are bounded, so no token is longer
_FIXED: Final = struct.Struct("<BQQiIII")
_VARIANTS: Final = tuple(Variant)
_VARIANT_BITS: Final = {variant: index << 20 for index, variant in enumerate(_VARIANTS)}
_STICKY: Final = 1 << 22
_RESCUED: Final = 1 << 23
_WEIGHT: Final = (1 << 20) - 1
_MARK_BIT: Final = 24
EPOCH_MARKS: Final = 255  # marks repeat after so many epochs; 0 is no mark: an older gateway made the token
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")
_DIGITS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_ALPHABET: Final = frozenset(_DIGITS)
_SPARE: Final = (0, 0, 0b1111, 0b11)  # bits of the last character that hold no data, by the characters modulo 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The contents of a prediction id. `predicted` (class index) and `bucket` are None if there is none.

    `rows`: the request had several rows. `carried`: what was predicted of each output; empty if `predicted` says it
    all, or if an earlier release made the token of several rows. `sticky`: the bucket comes from a key that recurs,
    such as a customer. `rescued`: the candidate failed and stable answered. `mark`: that of the epoch in which the
    request was routed (`epoch_mark`); 0 if not known.
    """

    model: str
    version: int
    variant: Variant
    route: str
    weight_ppm: int
    time_ns: int
    nonce: int
    predicted: int | None
    bucket: int | None
    sticky: bool
    rescued: bool
    rows: bool = False
    mark: int = 0
    carried: tuple[Carried, ...] = ()

    @property
    def row_count(self) -> int | None:
        """The number of rows of the request; None if there were several and it is not known how many."""
        return self.carried[0].rows if self.carried else None if self.rows else 1


def epoch_mark(epoch: int) -> int:
    """A number from 1 to MARKS that distinguishes an epoch from the MARKS - 1 before it."""
    return epoch % EPOCH_MARKS + 1


def nonces() -> Callable[[], int]:
    """Return a source of 64-bit numbers, unlikely to be used by another process: 39 random bits, then a counter."""
    return itertools.count(secrets.randbits(39) << 24 | secrets.randbits(20)).__next__


class Signer:
    """Creates and verifies tokens. `keys`: numbers with secrets; the last one signs, all verify. Keys that different
    hosts have made may have the same number.
    """

    __slots__ = ("_base", "_bases", "_current")

    def __init__(self, keys: Sequence[tuple[int, bytes]]) -> None:
        self._bases: dict[int, list[Any]] = {}
        self.adopt(keys)

    def adopt(self, keys: Sequence[tuple[int, bytes]]) -> None:
        """Use these keys from now on."""
        bases: dict[int, list[Any]] = {}
        for number, secret in keys:
            bases.setdefault(number, []).append(hashlib.blake2b(key=secret, digest_size=MAC_BYTES))
        self._current = keys[-1][0]
        self._base = bases[self._current][-1]
        self._bases = bases  # last, and at once: another thread may read

    def token(
        self, names: bytes, decision: Decision, nonce: int, predicted: int, rescued: bool, mark: int = 0
    ) -> bytes:
        """Create the token of a prediction that is answered now.

        `names`: model and route, from `encoded_names`, followed by CARRIED and what `carried.encoded` returns, if any.
        """
        flags = decision.weight_ppm | _VARIANT_BITS[decision.variant] | mark << _MARK_BIT
        if decision.sticky:
            flags |= _STICKY
        if rescued:
            flags |= _RESCUED
        bucket = NO_BUCKET if decision.bucket is None else decision.bucket
        body = _FIXED.pack(self._current, time.time_ns(), nonce, predicted, flags, bucket, decision.version) + names
        mac = self._base.copy()
        mac.update(body)
        raw = body + mac.digest()
        return b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=")

    def read(self, text: object) -> Token:
        """Verify and decode a token; raises InvalidRequest if it was not made with one of these keys."""
        raw = _raw(text)
        body, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        bases = self._bases.get(body[0]) if len(body) > _FIXED.size else None
        if bases is None:
            raise InvalidRequest(
                "prediction_id was not created by this gateway or one that shares its keys (STATE/token-keys.json)"
            )
        if not any(_signed(base, body, mac) for base in bases):
            raise InvalidRequest(
                "prediction_id has been changed, or is of a gateway that does not share its keys with this one; send it"
                " as the gateway returned it"
            )
        try:
            return _parsed(body)
        except ValueError:
            raise InvalidRequest("prediction_id was created by a later release; send it to a gateway of that") from None


def unverified(text: object) -> Token:
    """Decode a token without a look at its signature: anybody could have made it. Raises InvalidRequest."""
    body = _raw(text)[:-MAC_BYTES]
    try:
        return _parsed(body)
    except (ValueError, IndexError, struct.error):
        raise InvalidRequest("prediction_id is not one of a gateway; send it as the gateway returned it") from None


def encoded_names(model: str, route: str) -> bytes:
    """Encode the names of model and route for `Signer.token`."""
    return f"{model}\0{route}".encode()


def _signed(base: Any, body: bytes, mac: bytes) -> bool:
    expected = base.copy()
    expected.update(body)
    return secrets.compare_digest(expected.digest(), mac)


def _raw(text: object) -> bytes:
    if type(text) is not str or not 0 < len(text) <= MAX_TOKEN_LENGTH or not _ALPHABET.issuperset(text):
        raise InvalidRequest("prediction_id must be the text in the prediction's response")
    whole = len(text) % 4 != 1 and not _DIGITS.index(text[-1]) & _SPARE[len(text) % 4]  # a token of ours leaves them 0
    if not whole:
        raise InvalidRequest("prediction_id is truncated; send it as the gateway returned it")
    return a2b_base64(text.encode().translate(_FROM_URL) + b"=" * (-len(text) % 4))


def _parsed(body: bytes) -> Token:
    _, time_ns, nonce, predicted, flags, bucket, version = _FIXED.unpack_from(body)
    model, _, rest = body[_FIXED.size :].partition(b"\0")
    route, _, payload = rest.partition(CARRIED)
    return Token(
        model=model.decode(),
        version=version,
        variant=_VARIANTS[flags >> 20 & 3],
        route=route.decode(),
        weight_ppm=flags & _WEIGHT,
        time_ns=time_ns,
        nonce=nonce,
        predicted=predicted if predicted >= 0 else None,
        bucket=None if bucket == NO_BUCKET else bucket,
        sticky=bool(flags & _STICKY),
        rescued=bool(flags & _RESCUED),
        rows=predicted == SEVERAL_ROWS,
        mark=flags >> _MARK_BIT,
        carried=decoded(payload),
    )
