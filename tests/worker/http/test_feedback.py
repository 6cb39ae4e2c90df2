"""POST /v2/feedback on real models: what is accepted, what is refused and why, and a ring that is never drained."""

import asyncio
import functools
import gzip
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.backends.repository import Repository
from gateway.protocol.decode import decode_request
from gateway.records.token import Signer
from gateway.routing.attributes import Attributes
from gateway.settings.routing import RoutingSettings
from gateway.shm.ring import Ring
from gateway.worker.call import RequestSource
from gateway.worker.feedback_entry import MAX_COMMENT, MAX_METRICS
from gateway.worker.http import feedback as feedback_module
from gateway.worker.http.access import Access
from gateway.worker.http.app import data_app
from gateway.worker.http.feedback import MAX_BODY_BYTES, MAX_ENTRIES
from gateway.worker.pipeline import Pipeline
from gateway.worker.truths import MAX_TRUTH
from tests import zoo
from tests.backends.onnx_models import FLOAT, place, save
from tests.deployed import Deployed, served_by

RING = 16 << 20
MODEL_YAML = "prediction: {output: y, labels: [cat, dog, eel]}\n"


class Bench:
    """An application with its rings."""

    def __init__(self, client: httpx.AsyncClient, gateway: Pipeline, feedback: Ring) -> None:
        self.client = client
        self.gateway = gateway
        self.ring = feedback

    async def predict(self, *scores: Any, model: str = "pets", rows: int = 1) -> str:
        """Make a prediction whose highest score is its class; returns its id."""
        data = scores or (0, 1, 0)
        tensor = {"name": "x", "shape": [rows, len(data) // rows], "datatype": "FP32", "data": data}
        body = orjson.dumps({"inputs": [tensor]})
        gateway = self.gateway
        call = gateway.begin(gateway.served(model), None, decode_request(body), Attributes(), RequestSource(body))
        submitted = gateway.submit(call)
        await submitted
        return gateway.end(call, submitted).call.prediction_id.decode()

    async def tell(self, entries: Any, **headers: str) -> Any:
        answer = await self.client.post("/v2/feedback", json=entries, headers=headers)
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def refused(self, entry: Any) -> str:
        """The reason why this entry is refused, without affecting another one."""
        good = {"prediction_id": await self.predict(), "reward": 1}
        self.records()
        answer = await self.tell([good, entry, good])
        assert answer["accepted"] == 2
        (rejected,) = answer["rejected"]
        assert rejected["index"] == 1
        assert len(self.records()) == 2
        return str(rejected["error"])

    def records(self) -> list[dict[str, Any]]:
        """What has been recorded since the last call."""
        data = bytes(self.ring.pending(RING))
        self.ring.release(len(data))
        return [orjson.loads(line) for line in data.splitlines()]


def scores(width: int) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        node = zoo.helper.make_node("Sigmoid" if width == 1 else "Identity", ["x"], ["y"])
        return save(path, [node], {"x": (FLOAT, ["n", width])}, {"y": (FLOAT, ["n", width])})

    return make


def models(folder: Path) -> Path:
    for name in ("pets", "numbers", "nameless", "indexed"):
        place(folder, name, 1, scores(3))
    for name in ("spam", "regression"):
        place(folder, name, 1, scores(1))
    (folder / "indexed" / "model.yaml").write_text("prediction: {output: y}\n")
    (folder / "spam" / "model.yaml").write_text("prediction: {output: y, labels: [ham, spam]}\n")
    (folder / "regression" / "model.yaml").write_text("prediction: {output: y}\n")
    (folder / "pets" / "model.yaml").write_text(MODEL_YAML)
    (folder / "numbers" / "model.yaml").write_text(MODEL_YAML.replace("cat, dog, eel", '"3", "5", "7"'))
    return folder


@asynccontextmanager
async def bench(folder: Path, size: int = RING, max_body: int = 64 << 20) -> AsyncIterator[Bench]:
    deployment = served_by(Repository(models(folder / "models")), RoutingSettings())
    await deployment.start()
    deployed = Deployed(deployment, size=size)
    transport = httpx.ASGITransport(data_app(deployed.pipeline, max_body, deployment, Access()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield Bench(client, deployed.pipeline, deployed.rings.feedback)
    await deployment.close()


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(test(**arguments))

    return run


@on_a_loop
async def test_feedback_is_recorded_with_the_fields_of_its_prediction_id(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        one = await here.predict(0, 1, 0)
        entry = {"prediction_id": one, "truth": "dog", "reward": 2, "metrics": {"sales": 3}, "comment": "ok\n—"}
        before_ns = time.time_ns()
        assert await here.tell(entry, **{"x-customer-id": "acme"}) == {"accepted": 1, "rejected": []}
        (record,) = here.records()
        assert before_ns <= record.pop("time_ns") <= time.time_ns()
        assert record == {
            "kind": "feedback", "prediction_id": one, "model": "pets", "version": 1, "variant": "stable",
            "truth": "dog", "truth_class": 1, "correct": True, "reward": 2.0, "metrics": {"sales": 3.0},
            "comment": "ok\n—", "customer": "acme",
            "outcomes": {"wrong": 0.0, "loss": 0.0, "reward": 2.0, "metrics.sales": 3.0},
        }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "truth", "truth_class", "correct"),
    [
        ("pets", "dog", 1, True),
        ("pets", "cat", 0, False),
        ("pets", 1, 1, True),
        ("pets", 2.0, 2, False),
        ("numbers", 5, 1, True),
        ("numbers", "5", 1, True),
        ("numbers", 7, 2, False),
        ("indexed", 1, 1, True),
        ("indexed", "1", 1, True),
        ("indexed", "2", 2, False),
        ("nameless", "whatever", None, None),
        ("nameless", 3.25, None, None),
    ],
)
@on_a_loop
async def test_truth_by_name_number_or_index_is_accepted(
    tmp_path: Path, model: str, truth: Any, truth_class: int | None, correct: bool | None
) -> None:
    async with bench(tmp_path) as here:
        await here.tell({"prediction_id": await here.predict(0, 1, 0, model=model), "truth": truth})
        (record,) = here.records()
        assert (record["truth"], record["truth_class"], record["correct"]) == (truth, truth_class, correct)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (7, "must be an object with prediction_id"),
        (None, "must be an object"),
        ([], "must be an object"),
        ({"truth": 1}, "prediction_id must be the text"),
        ({"prediction_id": None, "truth": 1}, "prediction_id must be the text"),
        ({"prediction_id": 7, "truth": 1}, "prediction_id must be the text"),
        ({"prediction_id": "forged", "truth": 1}, "prediction_id"),
    ],
    ids=repr,
)
@on_a_loop
async def test_entry_without_a_valid_prediction_id_is_refused_alone(tmp_path: Path, entry: Any, says: str) -> None:
    async with bench(tmp_path) as here:
        assert says in await here.refused(entry)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({}, "is empty: give at least one of truth, reward, metrics"),
        ({"comment": "well"}, "is empty"),
        ({"truth": None, "reward": None, "metrics": None}, "is empty"),
        ({"truht": 1}, "unknown key 'truht'; known are comment, metrics, prediction_id, reward, row, truth"),
        ({"truth": "cow"}, "truth 'cow' is not a class of 'y'; its classes are cat, dog, eel"),
        ({"truth": "x" * MAX_TRUTH}, f"truth is longer than {MAX_TRUTH} characters"),
        ({"truth": 7}, "truth 7 is not a class of 'y'; its classes are cat, dog, eel"),
        ({"truth": "2"}, "truth '2' is not a class"),
        ({"truth": 1.5}, "truth 1.5 is not a class"),
        ({"truth": -1}, "truth -1 is not a class"),
        ({"truth": True}, "truth true is not a class"),
        ({"truth": [9]}, "truth[0] 9 is not a class"),
        ({"truth": [1, 1]}, "truth is a list of 2, but the request had one row"),
        ({"truth": {"box": [1, 2]}}, "truth an object of 1 keys is not a class"),
        ({"truth": nested(300)}, "truth is nested too deeply: at most 32 levels"),
        ({"truth": nested(33)}, "truth is nested too deeply"),
        ({"reward": "high"}, "reward must be a number, got 'high'"),
        ({"reward": True}, "reward must be a number"),
        *(({"reward": far}, "from -1e+06 to 1e+06, which feedback.reward in") for far in (1.7e308, 1e20, -1.000001e6)),
        *(({"metrics": {"x": far}}, "metrics.x must be from -1e+09 to 1e+09") for far in (-1.7e308, 1e20, 10**19)),
        ({"reward": [True]}, "reward must be a number"),
        ({"reward": [1, 2]}, "reward is a list of 2, but the request had one row"),
        ({"metrics": {}}, f"metrics must be an object of 1 to {MAX_METRICS} numbers"),
        ({"metrics": [1]}, "metrics must be an object"),
        ({"metrics": {f"m{n}": 1 for n in range(MAX_METRICS + 1)}}, "metrics must be an object of 1 to"),
        ({"metrics": {"sales": "many"}}, "metrics.sales must be a number"),
        ({"metrics": {"sales": None}}, "metrics.sales must be a number"),
        ({"metrics": {"": 1}}, "with a name of 1 to 100 printable characters"),
        ({"metrics": {"x" * 101: 1}}, "with a name of 1 to 100 printable characters"),
        ({"metrics": {"x\x1b[2J": 1}}, "with a name of 1 to 100 printable characters"),
        ({"reward": 1, "comment": 7}, "comment must be a string"),
        ({"reward": 1, "comment": "x" * (MAX_COMMENT + 1)}, f"of {MAX_COMMENT} characters at most"),
    ],
    ids=lambda value: repr(value)[:40],
)
@on_a_loop
async def test_malformed_entry_is_refused_with_a_short_reason(tmp_path: Path, said: dict[str, Any], says: str) -> None:
    async with bench(tmp_path) as here:
        error = await here.refused({"prediction_id": await here.predict(), **said})
        assert says in error
        assert len(error) < 500


@on_a_loop
async def test_values_just_within_the_limits_are_accepted(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        one = await here.predict(model="nameless")
        for said in (
            {"truth": "x" * (MAX_TRUTH - 2)},
            {"truth": nested(32)},
            {"truth": 0},
            {"truth": False},
            {"truth": 2**64 - 1},
            {"reward": -1e6},
            {"reward": 0},
            {"metrics": {"x" * 100: 1, **{f"m{n}": n for n in range(MAX_METRICS - 1)}}},
            {"reward": 1, "comment": "\u2028" * MAX_COMMENT},
        ):
            answer = await here.tell({"prediction_id": one, **said})
            assert (answer["accepted"], answer["rejected"]) == (1, []), said
            assert ("uncounted" in answer) == ("truth" in said)
        assert len(here.records()) == 9


@on_a_loop
async def test_altered_truncated_and_foreign_ids_are_refused_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        one = await here.predict()
        foreign = Signer([(0, b"x" * 32)])
        call = here.gateway.served("pets")
        stranger = foreign.token(call.names["default"], call.release.pinned(1), 1, 1, False).decode()
        altered = one[:20] + ("A" if one[20] != "A" else "B") + one[21:]
        ids = [one, altered, one[:-1], stranger, one]
        answer = await here.tell([{"prediction_id": each, "reward": 1} for each in ids])
        assert answer["accepted"] == 2
        assert [rejected["index"] for rejected in answer["rejected"]] == [1, 2, 3]
        assert [record["prediction_id"] for record in here.records()] == [one, one]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b'[{"reward": 1e400}]', "not valid JSON"),
        (b"[" * 2000, "not valid JSON"),
        (b"[]", f"one object or a list of 1 to {MAX_ENTRIES}, got 0 entries"),
        (b"[" + b",".join([b"{}"] * (MAX_ENTRIES + 1)) + b"]", f"got {MAX_ENTRIES + 1} entries"),
    ],
    ids=lambda value: repr(value)[:30],
)
@on_a_loop
async def test_body_that_is_no_list_of_entries_is_refused(tmp_path: Path, body: bytes, says: str) -> None:
    async with bench(tmp_path) as here:
        answer = await here.client.post("/v2/feedback", content=body)
        assert answer.status_code == 400
        assert says in answer.json()["error"]
        assert here.records() == []


@on_a_loop
async def test_ten_thousand_entries_at_once_are_accepted(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        ids = [await here.predict() for _ in range(10)]
        entries = [{"prediction_id": ids[n % 10], "reward": n} for n in range(MAX_ENTRIES)]
        entries[1234]["reward"] = "bad"
        answer = await here.tell(entries)
        assert answer["accepted"] == MAX_ENTRIES - 1
        assert [rejected["index"] for rejected in answer["rejected"]] == [1234]
        assert [record["reward"] for record in here.records()] == [n for n in range(MAX_ENTRIES) if n != 1234]


@on_a_loop
async def test_long_list_does_not_block_predictions(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        one = await here.predict()
        told = asyncio.create_task(here.tell([{"prediction_id": one, "reward": n} for n in range(MAX_ENTRIES)]))
        turns = 0
        while not told.done():
            await here.predict()
            turns += 1
        assert turns > 20
        assert told.result()["accepted"] == MAX_ENTRIES


@on_a_loop
async def test_compressed_list_is_accepted(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        body = gzip.compress(orjson.dumps([{"prediction_id": await here.predict(), "truth": "cat"}]))
        answer = await here.client.post("/v2/feedback", content=body, headers={"content-encoding": "gzip"})
        assert answer.json() == {"accepted": 1, "rejected": []}


@on_a_loop
async def test_too_large_body_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        answer = await here.client.post("/v2/feedback", content=b" " * (MAX_BODY_BYTES + 1))
        assert answer.status_code == 413


@on_a_loop
async def test_full_ring_is_answered_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback_module, "TIMEOUT_S", 0.05)
    async with bench(tmp_path, size=2000) as here:
        entries = [{"prediction_id": await here.predict(), "reward": n} for n in range(20)]
        answer = await here.client.post("/v2/feedback", json=entries)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        recorded = here.records()
        assert 0 < len(recorded) < 20
        assert f"before entry {len(recorded)} are recorded" in answer.json()["error"]
        assert (await here.tell(entries[:2]))["accepted"] == 2, "there is room again"


@on_a_loop
async def test_list_larger_than_the_ring_is_accepted_as_it_is_drained(tmp_path: Path) -> None:
    async with bench(tmp_path, size=2000) as here:
        entries = [{"prediction_id": await here.predict(), "reward": n} for n in range(100)]
        told = asyncio.create_task(here.tell(entries))
        found: list[dict[str, Any]] = []
        while not told.done():
            found += here.records()
            await asyncio.sleep(0)
        found += here.records()
        assert told.result()["accepted"] == 100
        assert [record["reward"] for record in found] == list(range(100))


@on_a_loop
async def test_feedback_on_a_removed_model_is_recorded(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        one = await here.predict()
        del here.gateway.catalog.models["pets"]  # type: ignore[attr-defined]
        assert (await here.tell({"prediction_id": one, "truth": "dog"}))["accepted"] == 1
        (record,) = here.records()
        assert (record["truth"], record["correct"], record["model"]) == ("dog", None, "pets")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@on_a_loop
async def test_other_methods_are_refused(tmp_path: Path, method: str) -> None:
    async with bench(tmp_path) as here:
        assert (await here.client.request(method, "/v2/feedback")).status_code == 405


@pytest.mark.parametrize(
    ("score", "truth", "correct"),
    [(3, "spam", True), (3, "ham", False), (-3, 0, True), (-3, 1, False), (0, "spam", True), (3, 1.0, True)],
)
@on_a_loop
async def test_truth_of_a_single_probability_with_two_labels(
    tmp_path: Path, score: float, truth: Any, correct: bool
) -> None:
    async with bench(tmp_path) as here:
        answer = await here.tell({"prediction_id": await here.predict(score, model="spam"), "truth": truth})
        assert answer == {"accepted": 1, "rejected": []}
        (record,) = here.records()
        assert record["correct"] is correct


@pytest.mark.parametrize("truth", ["dog", 1, {"a": 1}, None])
@pytest.mark.parametrize(("model", "data"), [("pets", (0, 1, 0, 1, 0, 0)), ("regression", (1, 2)), ("spam", (1, 2))])
@on_a_loop
async def test_single_truth_for_several_rows_is_refused_but_a_reward_is_not(
    tmp_path: Path, model: str, data: Any, truth: Any
) -> None:
    async with bench(tmp_path) as here:
        one = await here.predict(*data, model=model, rows=2)
        if truth is None:
            assert await here.tell({"prediction_id": one, "reward": 1}) == {"accepted": 1, "rejected": []}
            return
        answer = await here.client.post("/v2/feedback", json={"prediction_id": one, "truth": truth})
        assert answer.status_code == 400
        assert "the request had 2 rows" in answer.json()["rejected"][0]["error"]
        assert here.records() == []


@on_a_loop
async def test_answer_is_an_error_of_the_same_form_where_no_entry_is_accepted(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        one = await here.predict()
        entries = [{"prediction_id": one, "truth": "cow"}, {"prediction_id": one}, {}]
        answer = await here.client.post("/v2/feedback", json=entries)
        assert answer.status_code == 400
        document = answer.json()
        assert document["accepted"] == 0
        assert [entry["index"] for entry in document["rejected"]] == [0, 1, 2]
        assert "truth 'cow' is not a class" in document["error"]
        assert here.records() == []


@on_a_loop
async def test_truth_that_no_guard_can_count_is_recorded_with_a_warning(tmp_path: Path) -> None:
    async with bench(tmp_path) as here:
        priced, undecided = await here.predict(7, model="regression"), await here.predict("NaN", 1, 0)
        right = {"prediction_id": await here.predict(), "truth": "dog"}
        answer = await here.tell(
            [right, {"prediction_id": priced, "truth": 0.25}, {"prediction_id": undecided, "truth": "cat"}]
        )
        assert (answer["accepted"], answer["rejected"]) == (3, [])
        assert [entry["index"] for entry in answer["uncounted"]] == [1, 2]
        assert "name both in prediction.labels" in answer["uncounted"][0]["reason"]
        assert answer["uncounted"][1]["reason"] == "the prediction had no class"
        assert [record["correct"] for record in here.records()] == [True, None, None]
