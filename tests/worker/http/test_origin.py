"""Request ids and trace ids that join predictions to other systems' logs: in records and answers."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.records.line import MAX_ID_LENGTH
from tests.backends import onnx_models
from tests.running import GatewayProcess
from tests.wire import SMALL_BODY, Wire, get, post, row, turns

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"traceparent: 00-{TRACE_ID}-b7ad6b7169203331-01"
WAYS = {  # the ways that a request may take through the gateway
    "at once": ("doubling", row(), 0),
    "submitted": ("looping", turns(20_000), 0),
    "as a task": ("doubling", row(), 2 * SMALL_BODY),
}
ERRORS = {
    "no such model": ("nothing", row(), 0),
    "no such model, as a task": ("nothing", row(), 2 * SMALL_BODY),
    "no JSON": ("doubling", b"{", 0),
    "no JSON, as a task": ("doubling", b"{" + b" " * 2 * SMALL_BODY, 0),
    "the deadline": ("looping", turns(2_000_000_000, timeout=50_000), 0),
    "too large": ("doubling", b" " * (1024 * 1024 + 1), 0),
}


@pytest.mark.parametrize("way", WAYS)
def test_request_id_header_is_returned_for_its_request_only(wire: Wire, way: str) -> None:
    model, document, pad = WAYS[way]
    reply = wire.send(post(model, document, "X-Request-Id: a-1/b", TRACEPARENT, pad=pad)).read()
    assert (reply.status, reply.headers["x-request-id"]) == (200, "a-1/b")
    assert "traceparent" not in reply.headers
    reply = wire.send(post(model, document, TRACEPARENT, pad=pad)).read()
    assert (reply.status, "x-request-id" in reply.headers) == (200, False)


@pytest.mark.parametrize("error", ERRORS)
def test_request_id_is_returned_with_an_error(wire: Wire, error: str) -> None:
    model, document, pad = ERRORS[error]
    reply = wire.send(post(model, document, "x-request-id: a-1", pad=pad)).read()
    assert (reply.status >= 400, reply.headers["x-request-id"]) == (True, "a-1")


def test_pipelined_requests_get_their_own_request_ids(wire: Wire) -> None:
    wire.send(b"".join(post("doubling", row(), f"x-request-id: {number}") for number in range(20)))
    assert [wire.read().headers["x-request-id"] for _ in range(20)] == [str(number) for number in range(20)]


@pytest.mark.parametrize(
    "request_id",
    [b"", b"a b", b"a\tb", b"a\xff", b"caf\xc3\xa9", b"a" * (MAX_ID_LENGTH + 1), b"a\x01b", b"a\x7fb", b"a\x0bb"],
)
@pytest.mark.parametrize("model", ["doubling", "nothing"])
def test_invalid_request_id_is_not_returned(gateway: GatewayProcess, request_id: bytes, model: str) -> None:
    request = post(model, row(), "x-request-id: HERE").replace(b"HERE", request_id)
    with Wire(gateway) as wire:
        reply = wire.send(request).read()
        assert reply.status in (200, 400, 404)
        assert "x-request-id" not in reply.headers


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n", b"\r\n ", b"\r\n\t"])
@pytest.mark.parametrize("model", ["doubling", "nothing"])
def test_request_id_cannot_inject_a_header(gateway: GatewayProcess, end: bytes, model: str) -> None:
    request = post(model, row(), "x-request-id: HERE").replace(b"HERE", b"a" + end + b"x-forged: yes")
    with Wire(gateway) as wire:
        reply = wire.send(request).read()
    assert "x-forged" not in reply.headers
    assert reply.headers.get("x-request-id", "a") == "a"


LONG = "é" * (2 * MAX_ID_LENGTH)
JOINED: list[tuple[str, list[str], dict[str, Any], str | None, str | None]] = [
    ("nothing", [], {}, None, None),
    ("both headers", [TRACEPARENT, "x-request-id: a-1"], {}, TRACE_ID, "a-1"),
    ("a trace only", [TRACEPARENT], {}, TRACE_ID, None),
    ("an id only", ['x-request-id: a"\\u0000b'], {}, None, 'a"\\u0000b'),
    ("the body's id", [], {"id": 'a"b\n\x00'}, None, 'a"b\n\x00'),
    ("the header's before the body's", ["x-request-id: a-1"], {"id": "b-1"}, None, "a-1"),
    ("a trace and the body's id", [TRACEPARENT], {"id": "b-1"}, TRACE_ID, "b-1"),
    ("a long one is cut", [], {"id": LONG}, None, LONG[:MAX_ID_LENGTH]),
    ("an empty one", ["x-request-id:"], {"id": ""}, None, None),
    ("what is not valid", [TRACEPARENT.upper(), "x-request-id: a b"], {}, None, None),
]


@pytest.mark.parametrize("inputs", ["full", "none"])
def test_record_holds_the_request_id_and_the_trace_id(tmp_path: Path, inputs: str) -> None:
    onnx_models.doubling(tmp_path / "models" / "doubling" / "1" / "model.onnx")
    with GatewayProcess(tmp_path, tmp_path / "models", records={"inputs": inputs}) as gateway, Wire(gateway) as wire:
        ids = [
            wire.send(post("doubling", row() | more, *headers)).read().headers["x-prediction-id"]
            for _, headers, more, _, _ in JOINED
        ]
    (segment,) = (tmp_path / "state" / "records").glob("predictions-*")
    lines = [orjson.loads(line) for line in segment.read_bytes().split(b"\n") if line]
    kept = {line["prediction_id"]: line for line in lines}
    for prediction_id, (case, _, _, trace_id, request_id) in zip(ids, JOINED, strict=True):
        record = kept[prediction_id]
        assert (record.get("trace_id"), record.get("request_id")) == (trace_id, request_id), case
        assert ("trace_id" in record, "request_id" in record) == (trace_id is not None, request_id is not None), case


def test_request_id_is_not_returned_by_other_routes(wire: Wire) -> None:
    assert "x-request-id" not in wire.send(get("/v2", "x-request-id: a-1")).read().headers


def test_internal_error_is_logged_with_the_request_id_and_trace_id(tmp_path: Path) -> None:
    """No known request causes one, so the last step before the answer is broken in the worker itself."""
    onnx_models.doubling(tmp_path / "models" / "doubling" / "1" / "model.onnx")
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import sys\n"
        "if sys.orig_argv[1:3] == ['-m', 'gateway.worker']:\n"
        "    from gateway.worker.recorder import Recorder\n"
        "    def broken(*_): raise RuntimeError('broken on purpose')\n"
        "    Recorder.answered = broken\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        started = GatewayProcess(tmp_path, tmp_path / "models", server={"log": "json"})
        with started as gateway, Wire(gateway) as wire:
            for pad in (0, 2 * SMALL_BODY):
                reply = wire.send(post("doubling", row(), TRACEPARENT, "x-request-id: a-1", pad=pad)).read()
                assert (reply.status, reply.headers["x-request-id"]) == (500, "a-1")
                assert "broken on purpose" not in reply.body.decode()
    logged = [json.loads(line) for line in started.log.splitlines()]
    entries = [entry for entry in logged if entry["level"] == "error"]
    assert len(entries) == 2
    for entry in entries:
        assert (entry["trace_id"], entry["request_id"], entry["role"]) == (TRACE_ID, "a-1", "worker")
        assert len(entry["prediction_id"]) > 60
        assert entry["message"] == "internal error of the gateway during a prediction of the model 'doubling'"
        assert "broken on purpose" in entry["exception"]
