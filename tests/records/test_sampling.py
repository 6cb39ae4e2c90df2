"""Sampling: a share of all predictions, and the same ones for everything recorded about them."""

from math import sqrt

import orjson

from gateway.records.line import line_of
from gateway.records.sampling import SHARE_RESOLUTION, sample_filter, sample_share
from gateway.records.token import Signer, encoded_names, nonces
from gateway.routing.release import Decision, Variant

SIGNER = Signer([(0, bytes(32))])
DECISION = Decision(1, Variant.STABLE, "default", None, 0, 1.0)


def feedback(nonce: int) -> bytes:
    token = SIGNER.token(encoded_names("m", "r"), DECISION, nonce, 1, False).decode()
    return line_of({"prediction_id": token, "truth": 1})


def test_sample_has_the_configured_share_without_clusters() -> None:
    count, sample = 100_000, 0.1
    nonce = nonces()
    drawn = [sample_share(nonce()) < sample * SHARE_RESOLUTION for _ in range(count)]
    assert abs(sum(drawn) - count * sample) < 5 * sqrt(count * sample * (1 - sample))
    runs = [sum(drawn[start : start + 1000]) for start in range(0, count, 1000)]
    assert all(40 < taken < 160 for taken in runs)


def test_sample_of_all_and_of_none() -> None:
    nonce = nonces()
    assert all(0 <= sample_share(nonce()) < SHARE_RESOLUTION for _ in range(1000))
    lines = b"".join(feedback(nonce()) for _ in range(20))
    assert sample_filter(SIGNER, 1.0)(lines) is lines
    assert sample_filter(SIGNER, 0.0)(lines) == b""


def test_feedback_is_kept_exactly_where_its_prediction_is() -> None:
    nonce = nonces()
    numbers = [nonce() for _ in range(200)]
    kept = sample_filter(SIGNER, 0.3)(b"".join(map(feedback, numbers)))
    expected = [number for number in numbers if sample_share(number) < round(0.3 * SHARE_RESOLUTION)]
    assert 20 < len(expected) < 120
    assert [SIGNER.read(orjson.loads(line)["prediction_id"]).nonce for line in kept.splitlines()] == expected


def test_feedback_signed_by_an_unknown_key_is_kept() -> None:
    stranger = sample_filter(Signer([(1, bytes(32))]), 0.3)
    line = feedback(12345)
    assert stranger(line) == line
