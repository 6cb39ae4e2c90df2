"""Prediction ids: gateways with the same keys read from them what was put in; no one else can make one."""

import base64
import hashlib
import secrets
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.protocol.classification import NO_CLASS
from gateway.records.token import MAC_BYTES, MAX_TOKEN_LENGTH, Signer, Token, encoded_names, nonces, unverified
from gateway.routing.release import Decision, Variant

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SEVEN, EIGHT = (7, bytes(range(32))), (8, bytes(range(32, 64)))
SIGNER = Signer([EIGHT, SEVEN])
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=40)


def decision(**fields: object) -> Decision:
    return replace(Decision(2, Variant.CANDIDATE, "everyone", 123_456, 50_000, 0.05, True), **fields)  # type: ignore[arg-type]


def token(signer: Signer = SIGNER, predicted: int = 3, rescued: bool = False, **fields: object) -> str:
    return signer.token(encoded_names("digits", "everyone"), decision(**fields), 42, predicted, rescued).decode()


def refused(text: object, signer: Signer = SIGNER) -> str:
    with pytest.raises(InvalidRequest) as raised:
        signer.read(text)
    return str(raised.value)


@given(
    st.builds(
        Token,
        model=NAMES,
        version=st.integers(1, 999_999_999),
        variant=st.sampled_from(Variant),
        route=NAMES,
        weight_ppm=st.integers(0, 1_000_000),
        time_ns=st.just(0),
        nonce=st.integers(0, 2**64 - 1),
        predicted=st.none() | st.integers(0, 2**31 - 1),
        bucket=st.none() | st.integers(0, 999_999),
        sticky=st.booleans(),
        rescued=st.booleans(),
    )
)
def test_token_returns_every_field(said: Token) -> None:
    made = Decision(said.version, said.variant, said.route, said.bucket, said.weight_ppm, 0.5, said.sticky)
    predicted = NO_CLASS if said.predicted is None else said.predicted
    text = SIGNER.token(encoded_names(said.model, said.route), made, said.nonce, predicted, said.rescued).decode()
    read = SIGNER.read(text)
    assert read.time_ns > 0
    for name in Token.__slots__:
        if name != "time_ns":
            assert getattr(read, name) == getattr(said, name), name
    assert set(text) <= set(ALPHABET)
    assert len(text) <= MAX_TOKEN_LENGTH


def test_token_has_at_most_80_characters() -> None:
    assert len(token()) <= 80


def test_token_with_any_character_changed_is_refused() -> None:
    text = token()
    messages = set()
    for place, right in enumerate(text):
        for wrong in ALPHABET:
            if wrong != right:
                messages.add(refused(text[:place] + wrong + text[place + 1 :]))
    assert all("prediction_id" in message for message in messages)


def test_truncated_or_extended_token_is_refused() -> None:
    text = token()
    for end in range(len(text)):
        refused(text[:end])
    for tail in ("A", "AA", "AAAA", "=", "==", "\n", " "):
        refused(text + tail)
    refused("A" + text)


def test_token_with_another_base64_spelling_is_refused() -> None:
    """Where the last character has bits to spare, other characters decode to the same bytes."""
    for length in range(3):
        text = SIGNER.token(encoded_names("digits" + "x" * length, "r"), decision(), 42, 3, False).decode()
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        twins = [
            text[:-1] + last
            for last in ALPHABET
            if last != text[-1] and base64.urlsafe_b64decode(text[:-1] + last + "=" * (-len(text) % 4)) == raw
        ]
        assert len(twins) == (0, 3, 15)[-len(text) % 4]
        for twin in twins:
            assert "truncated" in refused(twin)
        for other in (text.replace("-", "+"), text.replace("_", "/")):
            if other != text:
                refused(other)


@pytest.mark.parametrize(
    "text", [None, 7, 1.5, True, [], {}, b"bytes", "", "Ä" * 75, "=" * 8, "A" * (MAX_TOKEN_LENGTH + 1), "\0" * 75, " "]
)
def test_text_that_is_no_token_is_refused(text: object) -> None:
    assert "prediction_id must be the text" in refused(text)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_random_bytes_are_refused_without_another_error(raw: bytes) -> None:
    refused(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())


def test_id_of_another_kind_is_refused_unverified_too() -> None:
    """Text of the right alphabet and length, whose flags name a variant that there is not."""
    body = bytearray(base64.urlsafe_b64decode(token() + "=" * (-len(token()) % 4)))
    body[23] |= 3 << 4  # bits 20 and 21 of the flags, which begin at byte 21
    with pytest.raises(InvalidRequest, match="not one of a gateway"):
        unverified(base64.urlsafe_b64encode(bytes(body)).rstrip(b"=").decode())


def test_token_of_another_gateway_is_refused() -> None:
    foreign = Signer([(7, secrets.token_bytes(32))])
    assert "has been changed" in refused(token(foreign))
    assert "not created by this gateway" in refused(token(Signer([(9, bytes(32))])))


def test_old_key_verifies_until_it_is_removed() -> None:
    old = token(SIGNER)
    rotated = Signer([SEVEN, EIGHT])
    assert rotated.read(old).nonce == 42
    assert SIGNER.read(token(rotated)).nonce == 42
    assert "not created by this gateway" in refused(old, Signer([EIGHT]))


def test_token_with_another_key_number_is_refused() -> None:
    raw = bytearray(base64.urlsafe_b64decode(token() + "=" * (-len(token()) % 4)))
    raw[0] = 8
    assert "has been changed" in refused(base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode())


def test_signed_body_that_is_too_short_is_refused() -> None:
    """A body that ends within its fixed part, with a valid MAC, as an oracle might have given."""
    for size in (1, 10, 32):
        body = struct.pack("<B", 7) + bytes(size - 1)
        mac = hashlib.blake2b(body, key=SEVEN[1], digest_size=MAC_BYTES).digest()
        refused(base64.urlsafe_b64encode(body + mac).rstrip(b"=").decode())


def test_nonces_of_processes_are_distinct() -> None:
    sources = [nonces() for _ in range(50)]
    drawn = [source() for source in sources for _ in range(100)]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= nonce < 2**64 for nonce in drawn)
