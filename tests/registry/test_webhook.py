"""Which deliveries of a webhook are taken, also one that MLflow's own code has signed."""

import json
import subprocess

import pytest

from gateway.errors import InvalidRequest, Unauthenticated
from gateway.registry.webhook import MOST_AGE_S, check_delivery
from tests.tools import tool

SECRET = "fake-secret-of-a-webhook"
BODY = b'{"entity": "model_version_alias", "action": "created"}'
SIGNED_S = 1_790_000_000.0
HEADERS = {  # computed with openssl dgst -sha256 -hmac
    b"x-mlflow-delivery-id": b"0f5c",
    b"x-mlflow-timestamp": b"1790000000",
    b"x-mlflow-signature": b"v1,GCXkHwZXL3XxkIni71WUfzaygCkdiWoHJV9aTPDJ3tg=",
}
SIGN = """
import json, sys
from mlflow.webhooks.delivery import _generate_hmac_signature as signature
print(json.dumps(signature(*sys.argv[1:])))
"""


def test_a_signed_delivery_is_taken_as_long_as_it_is_new() -> None:
    for now_s in (SIGNED_S, SIGNED_S + MOST_AGE_S, SIGNED_S - MOST_AGE_S):
        check_delivery(SECRET, HEADERS, BODY, now_s)
    for now_s, said in ((SIGNED_S + MOST_AGE_S + 1, "301 s ago"), (SIGNED_S - MOST_AGE_S - 1, "-301 s ago")):
        with pytest.raises(InvalidRequest, match=said):
            check_delivery(SECRET, HEADERS, BODY, now_s)


@pytest.mark.parametrize(
    ("secret", "changed", "body"),
    [
        ("another-fake-secret", {}, BODY),
        ("fake-secret-that-is-\udcff-no-text", {}, BODY),  # as bytes that are no UTF-8 come from the environment
        (SECRET, {}, BODY + b" "),
        (SECRET, {b"x-mlflow-delivery-id": b"0f5d"}, BODY),
        (SECRET, {b"x-mlflow-timestamp": b"1790000001"}, BODY),
        (SECRET, {b"x-mlflow-signature": HEADERS[b"x-mlflow-signature"].removeprefix(b"v1,")}, BODY),
        (SECRET, {b"x-mlflow-signature": b""}, BODY),
        (SECRET, {b"x-mlflow-signature": b"v1,\xff"}, BODY),
    ],
)
def test_any_other_one_is_refused_without_a_reason(secret: str, changed: dict[bytes, bytes], body: bytes) -> None:
    with pytest.raises(Unauthenticated) as refused:
        check_delivery(secret, HEADERS | changed, body, SIGNED_S)
    assert str(refused.value) == "the delivery is not signed with the webhook's secret"


def test_a_delivery_without_headers_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        check_delivery(SECRET, {}, BODY, SIGNED_S)


@pytest.mark.slow
def test_what_mlflow_signs_is_taken() -> None:
    body = '{"data": {"name": "größe", "alias": "challenger"}}'
    command = [str(tool("mlflow") / "python"), "-c", SIGN, SECRET, "0f5c", "1790000000", body]
    signature = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    headers = HEADERS | {b"x-mlflow-signature": signature.encode()}
    check_delivery(SECRET, headers, body.encode(), SIGNED_S)
