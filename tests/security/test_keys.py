"""Every route with no key, a wrong one, an expired one, one of another scope, and a right one."""

import gzip
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from gateway.auth.keyfile import add_key, revoke_key
from gateway.control.api.event_stream import KEY_ENDED
from gateway.settings.keys import Scope
from tests.processes.flawed import metric, until
from tests.security.guarded import CALLERS, EXPIRED, INFER, Guarded, bearer, document

OPEN, ANY = "nothing", "any key"
MODEL = "/v2/models/flawed"
# method, path, the scope it requires, and the status with that scope
DATA: list[tuple[str, str, str, int]] = [
    ("GET", "/v2/health/live", OPEN, 200),
    ("GET", "/v2/health/ready", OPEN, 200),
    ("GET", "/v2", ANY, 200),
    ("GET", MODEL, ANY, 200),
    ("GET", f"{MODEL}/versions/1", ANY, 200),
    ("GET", f"{MODEL}/ready", ANY, 200),
    ("GET", f"{MODEL}/versions/1/ready", ANY, 200),
    ("GET", f"{MODEL}/stats", ANY, 200),
    ("GET", f"{MODEL}/versions/1/stats", ANY, 200),
    ("GET", "/v2/models/stats", ANY, 200),
    ("POST", "/v2/repository/index", ANY, 200),
    ("POST", f"{MODEL}/infer", "predict", 200),
    ("POST", f"{MODEL}/versions/1/infer", "predict", 200),
    ("POST", f"{MODEL}/versions/9/infer", "predict", 404),
    ("POST", "/v2/models/nothing/infer", "predict", 404),
    ("POST", "/v2/repository/models/nothing/load", "operate", 404),
    ("POST", "/v2/repository/models/nothing/unload", "operate", 404),
    ("GET", "/nothing", ANY, 404),
    ("GET", "/v2/nothing", ANY, 404),
    ("PUT", MODEL, ANY, 405),
]
CONTROL: list[tuple[str, str, str, int]] = [
    ("GET", "/health", OPEN, 200),
    ("GET", "/metrics", "read operate", 200),
    ("GET", "/api/releases", "read operate", 200),
    ("GET", "/api/releases/flawed", "read operate", 200),
    ("GET", "/api/releases/flawed/traffic", "read operate", 200),
    ("GET", "/api/traffic", "read operate", 200),
    ("GET", "/api/config", "read operate", 200),
    ("GET", "/api/decisions", "read operate", 200),
    ("GET", "/api/fleet", "read operate", 200),
    ("GET", "/api/nothing", "read operate", 404),
    ("POST", "/api/releases/flawed/resume", "operate", 409),
    ("POST", "/api/releases/nothing/stop", "operate", 404),
    ("POST", "/api/releases/nothing/promote", "operate", 404),
    ("POST", "/api/releases/nothing/undo-promote", "operate", 404),
    ("POST", "/api/fleet/remove", "operate", 400),
    ("DELETE", "/api/releases/flawed", "operate", 405),
]


def may(caller: str, need: str) -> bool:
    return need in (OPEN, ANY) or not {*need.split()}.isdisjoint(CALLERS[caller][1])


CASES = [
    pytest.param(plane, *route, id=f"{plane} {route[0]} {route[1]}")
    for plane, routes in (("data", DATA), ("control", CONTROL))
    for route in routes
]


@pytest.mark.parametrize(("plane", "method", "path", "need", "status"), CASES)
def test_every_route_requires_its_scope(
    running: Guarded, plane: str, method: str, path: str, need: str, status: int
) -> None:
    url = (running.gateway.url if plane == "data" else running.gateway.control_url) + path
    body = {"content": document()} if path.endswith("infer") else {}
    for caller in (None, EXPIRED):
        answer = running.ask(caller, method, url, **body)
        assert answer.status_code == (status if need == OPEN else 401), caller
        if need != OPEN:
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json().keys() == {"error"}
    for caller in CALLERS:
        answer = running.ask(caller, method, url, **body)
        assert answer.status_code == (status if may(caller, need) else 403), caller
        if not may(caller, need):
            assert "scope" in answer.json()["error"]


def test_feedback_requires_the_feedback_scope(running: Guarded) -> None:
    url = f"{running.gateway.url}/v2/feedback"
    assert running.ask(None, "POST", url, json={}).status_code == 401
    assert running.ask("predictor", "POST", url, json={}).status_code == 403
    assert running.ask("feeder", "POST", url, json={"prediction_id": "none"}).json()["accepted"] == 0


def test_predictions_and_feedback_are_recorded_under_the_key_s_customer(running: Guarded) -> None:
    url = f"{running.gateway.url}/v2/feedback"
    prediction_id = running.infer("all").headers["x-prediction-id"]
    feedback = {"prediction_id": prediction_id, "reward": 1}
    assert running.ask("all", "POST", url, json=feedback, headers={"x-customer-id": "globex"}).status_code == 403
    assert running.ask("all", "POST", url, json=feedback).json() == {"accepted": 1, "rejected": []}
    records = running.file.parent / "state" / "records"

    def recorded(kind: str) -> list[Any]:
        lines = [line for path in records.glob(f"{kind}-*") for line in path.read_bytes().split(b"\n")[:-1]]
        documents = [json.loads(line) for line in lines]
        return [one["customer"] for one in documents if one["prediction_id"] == prediction_id]

    until(lambda: recorded("predictions") == ["acme"] == recorded("feedback"), "both records")


# The paths of a prediction through the gateway: each must require a key.
WAYS: dict[str, tuple[bytes, dict[str, str]]] = {
    "short": (document(), {}),
    "large": (document().ljust(200_000), {}),
    "compressed": (gzip.compress(document()), {"content-encoding": "gzip"}),
    "expecting": (document(), {"expect": "100-continue"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_prediction_requires_a_key(running: Guarded, way: str) -> None:
    body, headers = WAYS[way]
    assert running.infer(None, body, **headers).status_code == 401
    assert running.infer("feeder", body, **headers).status_code == 403
    assert running.infer("predictor", body, **headers, x_customer_id="globex").status_code == 403
    assert running.infer("predictor", body, **headers).status_code == 200


def test_chunked_prediction_requires_a_key(running: Guarded) -> None:
    def parts() -> Iterator[bytes]:
        yield document()[:10]
        yield document()[10:]

    url = running.gateway.url + INFER
    statuses = [
        httpx.post(url, content=parts(), headers=bearer(key)).status_code for key in (None, running.keys["predictor"])
    ]
    assert statuses == [401, 200]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer KEY"},
        {"authorization": "bearer KEY"},
        {"authorization": "BEARER   KEY"},
        {"x-api-key": "KEY"},
        {"authorization": "Basic YTpi", "x-api-key": "KEY"},
    ],
    ids=str,
)
def test_key_is_accepted_in_each_supported_header(running: Guarded, headers: dict[str, str]) -> None:
    sent = {name: value.replace("KEY", running.keys["predictor"]) for name, value in headers.items()}
    assert httpx.get(f"{running.gateway.url}/v2", headers=sent).status_code == 200
    assert httpx.post(running.gateway.url + INFER, content=document(), headers=sent).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "KEY"},
        {"authorization": "Basic KEY"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer KEY KEY"},
        {"authorization": "Bearer KEYA"},
        {"authorization": "Bearer nothing", "x-api-key": "KEY"},
        {"cookie": "key=KEY"},
        {"x-api-key": "Bearer KEY"},
        {"x-api-key": ""},
        {"x-api-key": "A" * 60_000},
    ],
    ids=lambda headers: str(headers)[:50],
)
def test_unsupported_ways_to_send_a_key_are_refused(running: Guarded, headers: dict[str, str]) -> None:
    sent = {name: value.replace("KEY", running.keys["all"]) for name, value in headers.items()}
    for method, url in (
        ("POST", running.gateway.url + INFER),
        ("GET", f"{running.gateway.url}/v2"),
        ("GET", f"{running.gateway.control_url}/metrics"),
    ):
        answer = httpx.request(method, url, headers=sent)
        assert answer.status_code == 401
        assert running.keys["all"] not in answer.text


@pytest.mark.parametrize("name", ["key", "api_key", "api-key", "apikey", "access_token", "token", "X-API-Key", "q"])
def test_key_in_the_query_string_is_refused_with_the_remedy(running: Guarded, name: str) -> None:
    key = running.keys["all"]
    for method, url in (
        ("POST", running.gateway.url + INFER),
        ("GET", f"{running.gateway.url}/v2"),
        ("GET", f"{running.gateway.control_url}/api/releases"),
        ("POST", f"{running.gateway.control_url}/api/releases/flawed/stop"),
    ):
        for headers in ({}, bearer(key)):
            answer = httpx.request(method, url, params={"a": "b", name: key}, headers=headers)
            assert (answer.status_code, "authorization" in answer.json()["error"].lower()) == (400, True)
            assert key not in answer.text
    assert running.ask("all", "GET", f"{running.gateway.url}/v2?monkey=1&verbose=2").status_code == 200


def test_routing_uses_the_customer_of_the_key(running: Guarded) -> None:
    """Globex is assigned to the candidate and acme is not, whatever they claim."""
    variants = {caller: running.infer(caller).headers["x-variant"] for caller in ("predictor", "all", "globex")}
    assert variants == {"predictor": "stable", "all": "stable", "globex": "candidate"}
    same = running.infer("globex", document(customer="globex"), x_customer_id="globex")
    assert (same.status_code, same.headers["x-variant"]) == (200, "candidate")


@pytest.mark.parametrize("claim", ["globex", "Acme", "acme2", "acme globex", 5, True, ["acme"]])
def test_claim_to_be_another_customer_is_refused(running: Guarded, claim: Any) -> None:
    answer = running.infer("predictor", document(customer=claim))
    assert answer.status_code in ((403,) if isinstance(claim, str) else (400, 403))
    assert running.infer("predictor", document(customer=claim), x_customer_id="acme").status_code in (400, 403)
    if isinstance(claim, str):
        assert running.infer("predictor", x_customer_id=claim).status_code == 403
        assert running.infer("predictor", document(customer="acme"), x_customer_id=claim).status_code == 403
        other = f"{running.gateway.url}/v2/models/stats"
        assert running.ask("all", "GET", other, headers={"x-customer-id": claim}).status_code == 403


def test_refusal_before_the_body_keeps_the_connection_in_step(running: Guarded) -> None:
    """The body of the refused request must not be taken for the next request."""
    hidden = f"POST {INFER} HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n".encode() * 2_000
    assert len(hidden) > 65536
    with httpx.Client(base_url=running.gateway.url, timeout=30) as client:
        assert client.post(INFER, content=hidden).status_code == 401
        answer = client.post(INFER, content=document(), headers=bearer(running.keys["predictor"]))
        assert answer.status_code == 200


def test_client_that_expects_100_continue_is_refused_and_disconnected(running: Guarded) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.gateway.port), 30) as wire:
        wire.sendall(head.encode())
        answer = b"".join(iter(lambda: wire.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_decisions_record_the_key_s_customer(running: Guarded) -> None:
    api = f"{running.gateway.control_url}/api"
    stopped = running.ask("operator", "POST", f"{api}/releases/flawed/stop", json={"reason": "a test"}).json()
    assert running.ask("operator", "POST", f"{api}/releases/flawed/resume").status_code == 200
    decisions = running.ask("reader", "GET", f"{api}/decisions").json()
    assert stopped["by"].startswith("ops (key ")
    assert [decision["by"] for decision in decisions[:2]] == [stopped["by"]] * 2


def test_metrics_contain_no_key(running: Guarded) -> None:
    assert running.infer("predictor").status_code == 200
    text = running.ask("reader", "GET", f"{running.gateway.control_url}/metrics").text
    assert "gateway_predictions_total" in text
    assert not any(key in text for key in running.keys.values())
    assert "acme" not in text, "the customer is no label"


def test_refused_predictions_are_not_counted_for_the_model(local: Any, running: Guarded) -> None:
    def counted() -> str:
        text = running.ask("reader", "GET", f"{running.gateway.control_url}/metrics").text
        return "\n".join(line for line in text.splitlines() if line.startswith("gateway_predictions_total"))

    before = counted()
    for caller in (None, EXPIRED, "feeder"):
        running.infer(caller)
    assert counted() == before
    assert metric(local, "gateway_shed_total", reason="rate") == 0


def test_event_stream_ends_when_its_key_is_revoked(running: Guarded) -> None:
    key, entry = add_key(running.file, "watch", (Scope.READ,), datetime.now(UTC), None)
    url = f"{running.gateway.control_url}/api/events"
    until(lambda: httpx.get(f"{running.gateway.control_url}/api/config", headers=bearer(key)).is_success, "the new key")
    with httpx.stream("GET", url, headers=bearer(key), timeout=10) as response:
        lines = response.iter_lines()
        assert next(lines) == "event: snapshot"
        revoke_key(running.file, entry.id)
        assert KEY_ENDED in list(lines)[-2]
