"""Feedback on each kind of prediction, of one row and of several: what is judged, refused, or only recorded."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from onnx import TensorProto, helper

from gateway.backends.repository import Repository
from gateway.protocol.decode import decode_request
from gateway.records.carried import Carried, encoded, output_mark
from gateway.records.line import predictions_bytes, predictions_part
from gateway.records.token import CARRIED
from gateway.records.value_bins import bin_of
from gateway.routing.attributes import Attributes
from gateway.settings.model import Kind
from gateway.settings.routing import RoutingSettings
from gateway.shm.ring import Ring
from gateway.worker.call import RequestSource
from gateway.worker.feedback_entry import FeedbackEntries
from gateway.worker.feedback_rows import MAX_ROWS
from gateway.worker.http.access import Access
from gateway.worker.http.app import data_app
from gateway.worker.pipeline import Pipeline
from gateway.worker.predicted import MOST_ROWS
from tests.backends.onnx_models import FLOAT, place, save
from tests.deployed import Deployed, served_by

RING = 16 << 20
WIDTHS = {"pets": 3, "tags": 3, "price": 1, "shop": 1, "lists": 3, "vector": 3, "nothing": 3}
SETTINGS = {
    "pets": "prediction: {output: y, labels: [cat, dog, eel]}",
    "tags": "prediction: {output: y, kind: multilabel, labels: [red, round, soft]}",
    "price": "prediction: {output: y, kind: regression, unit: EUR, range: [0, 100]}",
    "shop": "prediction: {output: y, kind: ranking}",
    "lists": "prediction: {output: y, kind: ranking}",
    "vector": "prediction: {output: y, kind: embedding}",
    "nothing": "prediction: {output: y, kind: none}",
    "both": "prediction: [{output: animal, labels: [cat, dog]}, {output: age, kind: regression}]",
    "swapped": "prediction: [{output: age, kind: regression}, {output: size, kind: regression}]",
    "uneven": "prediction: [{output: animal, labels: [cat, dog]}, {output: age, kind: regression}]",
}


class Bench:
    """An application, and what it has recorded."""

    def __init__(self, client: httpx.AsyncClient, gateway: Pipeline, predictions: Ring, feedback: Ring) -> None:
        self.client = client
        self.gateway = gateway
        self._predictions = predictions
        self._feedback = feedback

    async def predict(self, model: str, *data: Any, rows: int = 1) -> str:
        """Make a prediction, whose output is its input, and record it; returns its id."""
        tensor = {"name": "x", "shape": [rows, len(data) // rows], "datatype": "FP32", "data": data}
        body = orjson.dumps({"inputs": [tensor]})
        gateway = self.gateway
        call = gateway.begin(gateway.served(model), None, decode_request(body), Attributes(), RequestSource(body))
        submitted = gateway.submit(call)
        await submitted
        reply = gateway.end(call, submitted)
        gateway.recorder.answered([(call, reply)])
        return reply.call.prediction_id.decode()

    async def tell(self, prediction_id: str, **entry: Any) -> dict[str, Any]:
        """Send one entry; return its record, with why its truth is not counted."""
        answer = (await self.client.post("/v2/feedback", json={"prediction_id": prediction_id, **entry})).json()
        assert answer.get("accepted") == 1, answer
        (record,) = _records(self._feedback)
        (uncounted,) = answer.get("uncounted", [{"reason": None}])
        return {**record, "uncounted": uncounted["reason"]}

    async def refused(self, prediction_id: str, **entry: Any) -> str:
        answer = await self.client.post("/v2/feedback", json={"prediction_id": prediction_id, **entry})
        assert answer.status_code == 400, answer.text
        assert _records(self._feedback) == []
        return str(answer.json()["rejected"][0]["error"])

    def predicted(self) -> list[tuple[Any, Any]]:
        """`predicted` and `predictions` of the predictions recorded since the last call."""
        return [(record["predicted"], record.get("predictions")) for record in _records(self._predictions)]


def _records(ring: Ring) -> list[dict[str, Any]]:
    data = bytes(ring.pending(RING))
    ring.release(len(data))
    return [orjson.loads(line) for line in data.splitlines()]


def same(width: int) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        node = helper.make_node("Identity", ["x"], ["y"])
        return save(path, [node], {"x": (FLOAT, ["n", width])}, {"y": (FLOAT, ["n", width])})

    return make


def animal_and_age(path: Path) -> Path:
    """Of [n, 3]: the scores of two animals, and an age."""
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [2, 1])
    node = helper.make_node("Split", ["x", "sizes"], ["animal", "age"], axis=1)
    outputs = {"animal": (FLOAT, ["n", 2]), "age": (FLOAT, ["n", 1])}
    return save(path, [node], {"x": (FLOAT, ["n", 3])}, outputs, [sizes])


def age_and_size(path: Path) -> Path:
    """Of [n, 3]: two numbers, and one that is no output."""
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [3], [1, 1, 1])
    node = helper.make_node("Split", ["x", "sizes"], ["age", "size", "more"], axis=1)
    return save(path, [node], {"x": (FLOAT, ["n", 3])}, {"age": (FLOAT, ["n", 1]), "size": (FLOAT, ["n", 1])}, [sizes])


def animals_of_one_age(path: Path) -> Path:
    """Of [n, 3]: the scores of two animals for each row, and one age for all."""
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [2, 1])
    split = helper.make_node("Split", ["x", "sizes"], ["animal", "ages"], axis=1)
    mean = helper.make_node("ReduceMean", ["ages"], ["age"], axes=[0], keepdims=1)
    return save(
        path, [split, mean], {"x": (FLOAT, ["n", 3])}, {"animal": (FLOAT, ["n", 2]), "age": (FLOAT, ["m", 1])}, [sizes]
    )


MAKERS = {"both": animal_and_age, "swapped": age_and_size, "uneven": animals_of_one_age}


@asynccontextmanager
async def bench(folder: Path, *names: str) -> AsyncIterator[Bench]:
    for name in names:
        place(folder, name, 1, MAKERS.get(name) or same(WIDTHS[name]))
        (folder / name / "model.yaml").write_text(SETTINGS[name])
    catalog = served_by(Repository(folder), RoutingSettings())
    await catalog.start()
    deployed = Deployed(catalog, size=RING)
    transport = httpx.ASGITransport(data_app(deployed.pipeline, 64 << 20, catalog, Access()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield Bench(client, deployed.pipeline, deployed.rings.predictions, deployed.rings.feedback)
    await catalog.close()


def on_bench(folder: Path, test: Callable[[Bench], Coroutine[Any, Any, None]], *names: str) -> None:
    async def run() -> None:
        async with bench(folder, *names) as here:
            await test(here)

    asyncio.run(run())


def test_five_rows_and_five_truths_are_five_judged_rows(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        one = await here.predict("pets", 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, "NaN", 0, 0, rows=5)
        assert here.predicted() == [(None, {"y": [1, 0, 2, 1, None]})]
        record = await here.tell(one, truth=["dog", "dog", 2, "cat", "cat"])
        assert (record["truth_class"], record["correct"]) == ([1, 1, 2, 0, 0], [True, False, True, False, None])
        assert (record["outcomes"], record["uncounted"]) == ({"wrong": 0.5, "loss": 0.5}, None)
        record = await here.tell(one, truth=["dog", None, None, None, None], reward=[1, 2, None, None, 6])
        assert record["correct"] == [True, None, None, None, None]
        assert record["outcomes"] == {"wrong": 0, "loss": 0, "reward": 3}
        assert record["reward"] == [1, 2, None, None, 6]

    on_bench(tmp_path, test, "pets")


def test_one_row_is_recorded_as_by_the_release_before(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        one = await here.predict("pets", 0, 1, 0)
        assert here.predicted() == [(1, None)]
        assert len(one) < 80
        for truth in ("dog", ["dog"]):
            record = await here.tell(one, truth=truth)
            assert (record["outcomes"], record["uncounted"]) == ({"wrong": 0, "loss": 0}, None)
        assert (await here.tell(one, truth="cat"))["outcomes"] == {"wrong": 1, "loss": 1}

    on_bench(tmp_path, test, "pets")


def test_row_index_says_which_row_single_values_are_about(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        one = await here.predict("pets", 0, 1, 0, 1, 0, 0, rows=2)
        record = await here.tell(one, row=1, truth="dog", reward=4, metrics={"sales": 2})
        assert (record["row"], record["truth_class"], record["correct"]) == (1, 1, False)
        assert record["outcomes"] == {"wrong": 1, "loss": 1, "reward": 4, "metrics.sales": 2}
        assert "from 0 to 1" in await here.refused(one, row=2, truth="dog")
        assert "row must be a whole number" in await here.refused(one, row="1", truth="dog")
        assert "the entry is about row 1" in await here.refused(one, row=1, reward=[1, 2])

    on_bench(tmp_path, test, "pets")


def test_regression_is_off_by_its_error(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        one = await here.predict("price", 12.5)
        assert here.predicted() == [(None, {"y": [12.5]})]
        record = await here.tell(one, truth=10)
        assert record["outcomes"] == {"loss": 2.5, "squared_error": 6.25, "error": 2.5}
        assert (record["truth_class"], record["correct"], record["uncounted"]) == (None, None, None)
        several = await here.predict("price", 1, 2, 3, rows=3)
        record = await here.tell(several, truth=[2, None, 5.0])
        assert record["outcomes"] == {"loss": 1.5, "squared_error": 2.5, "error": -1.5}
        assert (await here.tell(await here.predict("price", "NaN"), truth=1))["uncounted"] == (
            "the prediction was no finite number"
        )

    on_bench(tmp_path, test, "price")


def test_numbers_of_a_regression_are_counted_in_bins_of_its_range(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        await here.predict("price", 50)
        await here.predict("price", 0, -3, 100, "NaN", rows=4)
        counts = here.gateway.served("price").stable.tally.read().classes.sum(axis=0)
        assert {int(place): int(counts[place]) for place in counts.nonzero()[0]} == {0: 1, 1: 1, 32: 1, 63: 1}

    on_bench(tmp_path, test, "price")


def test_multilabel_truth_is_a_list_of_labels(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        one = await here.predict("tags", 0.9, 0.1, 0.5)
        assert here.predicted() == [(None, {"y": [[0, 2]]})]
        assert (await here.tell(one, truth=["soft", "red"]))["outcomes"] == {"wrong": 0, "loss": 0}
        record = await here.tell(one, truth=[0])
        assert (record["correct"], record["outcomes"]) == (False, {"wrong": 1, "loss": pytest.approx(1 / 3)})
        assert (await here.tell(one, truth=[]))["outcomes"]["loss"] == pytest.approx(2 / 3)
        several = await here.predict("tags", 1, 0, 0, 0, 0, 0, rows=2)
        record = await here.tell(several, truth=[["red"], ["red", "round", "soft"]])
        assert (record["correct"], record["outcomes"]) == ([True, False], {"wrong": 0.5, "loss": 0.5})

    on_bench(tmp_path, test, "tags")


def test_ranking_is_judged_by_the_clicked_positions(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        list_of_four = await here.predict("shop", 0.1, 0.4, 0.3, 0.2, rows=4)
        assert (await here.tell(list_of_four, truth=1))["outcomes"] == {"loss": 0, "ndcg": 1, "reciprocal_rank": 1}
        assert (await here.tell(list_of_four, truth=[2, 4]))["outcomes"]["reciprocal_rank"] == 0.5
        assert (await here.tell(list_of_four, truth=[]))["outcomes"] == {"loss": 1, "ndcg": 0, "reciprocal_rank": 0}
        assert "position 5 was clicked, of a list of 4" in await here.refused(list_of_four, truth=5)
        assert "1 for the one shown first" in await here.refused(list_of_four, truth=0)
        two_lists = await here.predict("lists", 1, 2, 3, 4, 5, 6, rows=2)
        assert (await here.tell(two_lists, truth=[1, [1, 2]]))["outcomes"]["ndcg"] == 1
        assert (await here.tell(two_lists, truth=[1, []]))["outcomes"]["ndcg"] == 0.5

    on_bench(tmp_path, test, "shop", "lists")


@pytest.mark.parametrize(("model", "says"), [("vector", "is an embedding"), ("nothing", "model.yaml says")])
def test_truth_of_an_embedding_or_of_no_kind_is_only_recorded(tmp_path: Path, model: str, says: str) -> None:
    async def test(here: Bench) -> None:
        one = await here.predict(model, 1, 2, 3)
        record = await here.tell(one, truth=["any", {"thing": 1}], reward=1)
        assert (record["truth"], record["outcomes"]) == (["any", {"thing": 1}], {"reward": 1})
        assert says in record["uncounted"]
        two = await here.predict(model, 1, 2, 3, 4, 5, 6, rows=2)
        assert (await here.tell(two, truth=["a", "b"], reward=[1, 3]))["outcomes"] == {"reward": 2}
        assert "a list of 3, but the request had 2 rows" in await here.refused(two, reward=[1, 2, 3])

    on_bench(tmp_path, test, model)


def test_outcomes_of_further_outputs_have_their_name(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        one = await here.predict("both", 0.2, 0.8, 7.5)
        assert here.predicted() == [(1, {"animal": [1], "age": [7.5]})]
        record = await here.tell(one, truth={"animal": "dog", "age": 9})
        assert record["outcomes"] == {
            "wrong": 0, "loss": 0, "age.loss": 1.5, "age.squared_error": 2.25, "age.error": -1.5,
        }  # fmt: skip
        assert (record["truth_class"], record["correct"]) == (1, True)
        assert (await here.tell(one, truth="cat"))["outcomes"] == {"wrong": 1, "loss": 1}
        assert (await here.tell(one, truth={"age": 7.5}))["outcomes"]["age.loss"] == 0
        assert "truth.size is of no output" in await here.refused(one, truth={"size": 1})
        for empty in ({}, {"age": None}):
            assert "truth says nothing of any output; there are animal, age" in await here.refused(one, truth=empty)
        assert "truth.age 'old' is not a number" in await here.refused(one, truth={"age": "old"})
        two = await here.predict("both", 1, 0, 3, 0, 1, 5, rows=2)
        record = await here.tell(two, truth={"animal": ["cat", "cat"], "age": [3, None]})
        assert (record["correct"], record["outcomes"]["wrong"], record["outcomes"]["age.loss"]) == (
            [True, False],
            0.5,
            0,
        )

    on_bench(tmp_path, test, "both")


@pytest.mark.parametrize(
    ("model", "rows", "entry", "says"),
    [
        ("pets", 2, {"truth": "dog"}, "the request had 2 rows, and one truth does not say which row it is about: give"),
        ("pets", 2, {"truth": ["dog"]}, "truth is a list of 1, but the request had 2 rows: give one value for"),
        ("pets", 2, {"truth": ["dog", "cow"]}, "truth[1] 'cow' is not a class of 'y'; its classes are cat, dog, eel"),
        ("pets", 2, {"truth": [None, None]}, "truth is null for every row"),
        ("pets", 2, {"reward": [1, "high"]}, "reward must be a number, got 'high'"),
        ("pets", 2, {"reward": [1, 2e6]}, "reward must be from -1e+06 to 1e+06"),
        ("pets", 2, {"metrics": {"sales": [1, 2, 3]}}, "metrics.sales is a list of 3"),
        ("pets", 1, {"truth": ["dog", "cat"]}, "truth is a list of 2, but the request had one row"),
        ("price", 1, {"truth": "12"}, "truth '12' is not a number from -1e+12 to 1e+12, as 'y' is a regression"),
        ("price", 1, {"truth": True}, "truth true is not a number"),
        ("price", 1, {"truth": 1e13}, "is not a number from -1e+12"),
        ("price", 2, {"truth": 1}, "the request had 2 rows"),
        ("tags", 1, {"truth": "red"}, "truth 'red' is not a list of labels of 'y', which is multilabel; its labels"),
        ("tags", 1, {"truth": ["blue"]}, "its labels are red, round, soft"),
        ("tags", 2, {"truth": ["red", "red"]}, "truth[0] 'red' is not a list of labels"),
    ],
)  # fmt: skip
def test_value_that_can_be_of_no_row_is_refused(
    tmp_path: Path, model: str, rows: int, entry: dict[str, Any], says: str
) -> None:
    async def test(here: Bench) -> None:
        data = [0.5] * WIDTHS[model] * rows
        assert says in await here.refused(await here.predict(model, *data, rows=rows), **entry)

    on_bench(tmp_path, test, model)


def test_rows_that_an_id_cannot_carry_are_recorded_and_said_not_to_count(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        one = await here.predict("price", *range(127), rows=127)
        record = await here.tell(one, truth=list(range(127)), reward=[1.0] * 127)
        assert (len(record["truth"]), record["outcomes"]) == (127, {"reward": 1})
        assert "127 rows does not fit into the 512 bytes of the prediction id" in record["uncounted"]
        fits = await here.predict("price", *range(126), rows=126)
        assert (await here.tell(fits, truth=list(range(126))))["outcomes"]["loss"] == 0

    on_bench(tmp_path, test, "price")


def test_ten_thousand_rows_in_one_entry_are_recorded(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        one = await here.predict("price", *([1.5] * MAX_ROWS), rows=MAX_ROWS)
        record = await here.tell(one, truth=[1.0] * MAX_ROWS, reward=[0.5] * MAX_ROWS)
        assert (len(record["truth"]), record["outcomes"]["reward"]) == (MAX_ROWS, 0.5)
        more = await here.predict("price", *([1.5] * (MAX_ROWS + 1)), rows=MAX_ROWS + 1)
        assert f"{MAX_ROWS:,} at most" in await here.refused(more, reward=[0.5] * (MAX_ROWS + 1))

    on_bench(tmp_path, test, "price")


def test_id_of_another_kind_is_recorded_and_said_not_to_count(tmp_path: Path) -> None:
    """model.yaml has been edited between the prediction and its feedback."""

    async def test(here: Bench) -> None:
        served = here.gateway.served("price")
        pets = here.gateway.recorder.signer.token(served.names["default"], served.release.pinned(1), 1, 2, False)
        record = await here.tell(pets.decode(), truth=3)
        assert record["outcomes"] == {}
        assert "before model.yaml said kind: regression" in record["uncounted"]

    on_bench(tmp_path, test, "price")


def test_several_rows_of_an_id_of_the_release_before_are_recorded(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        served = here.gateway.served("pets")
        older = here.gateway.recorder.signer.token(
            served.names["default"], served.release.pinned(1), 1, -2, False
        ).decode()
        record = await here.tell(older, truth=["dog", "cat"], reward=2)
        assert (record["truth_class"], record["correct"], record["outcomes"]) == ([1, 0], None, {"reward": 2})
        assert "made by an earlier release" in record["uncounted"]
        assert "several rows" in await here.refused(older, truth="dog")

    on_bench(tmp_path, test, "pets")


def test_row_that_one_output_lacks_is_refused_and_the_others_are_taken(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        two = await here.predict("uneven", 1, 0, 3, 0, 1, 5, rows=2)
        assert "row is 1, but truth.age is about one row" in await here.refused(two, row=1, truth={"age": 4})
        assert (await here.tell(two, row=0, truth={"age": 4}))["outcomes"]["age.loss"] == 0
        assert (await here.tell(two, row=1, truth={"animal": "dog"}))["outcomes"]["wrong"] == 0

    on_bench(tmp_path, test, "uneven")


def test_entry_that_cannot_be_judged_for_an_unforeseen_reason_is_refused_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise IndexError("unforeseen")

    async def test(here: Bench) -> None:
        one = await here.predict("pets", 1, 0, 0)
        monkeypatch.setattr("gateway.worker.feedback_entry.judged", fails)
        entries = [{"prediction_id": one, "truth": "dog"}, {"prediction_id": one, "reward": 1}]
        answer = await here.client.post("/v2/feedback", json=entries)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        assert answer.json()["rejected"][0] == {
            "index": 0,
            "error": "the gateway failed to judge this entry; its log says why",
        }
        assert "unforeseen" in caplog.text

    on_bench(tmp_path, test, "pets")


def test_truth_is_compared_with_the_output_of_its_name_after_an_edit(tmp_path: Path) -> None:
    """model.yaml named the outputs in another order, or others, when the prediction was made."""

    async def test(here: Bench) -> None:
        served = here.gateway.served("swapped")

        def made(*carried: Carried) -> str:
            names = served.names["default"] + CARRIED + encoded(carried)
            return here.gateway.recorder.signer.token(names, served.release.pinned(1), 1, -1, False).decode()

        size, age = (Carried(Kind.REGRESSION, 1, [5.0], output_mark(name)) for name in ("size", "age"))
        record = await here.tell(made(size, age._replace(values=[30.0])), truth={"age": 31, "size": 7})
        assert (record["outcomes"]["loss"], record["outcomes"]["size.loss"]) == (1, 2)
        assert (await here.tell(made(size._replace(mark=0)), truth=7))["outcomes"]["loss"] == 2
        record = await here.tell(made(size), truth={"age": 5})
        assert record["outcomes"] == {}
        assert "nothing to compare with output 'age'" in record["uncounted"]

    on_bench(tmp_path, test, "swapped")


def test_class_that_the_rest_of_an_id_has_no_room_for_counts(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        served = here.gateway.served("pets")
        names = served.names["default"] + CARRIED + encoded([Carried(Kind.CLASSIFICATION, 1, None, output_mark("y"))])
        one = here.gateway.recorder.signer.token(names, served.release.pinned(1), 1, 2, False).decode()
        assert (await here.tell(one, truth="eel"))["outcomes"]["wrong"] == 0

    on_bench(tmp_path, test, "pets")


@pytest.mark.parametrize(
    ("rows", "entry", "on_the_loop"),
    [
        (50, {"truth": [["red"]] * 50}, True),
        (50, {"truth": [["red"] * 10] * 50}, False),
        (50, {"reward": [1.0] * 50, "metrics": {f"m{n}": [1.0] * 50 for n in range(9)}}, False),
        (1, {"metrics": {f"m{n}": 1.0 for n in range(32)}}, True),
    ],
)
def test_long_entries_are_judged_on_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, entry: dict[str, Any], on_the_loop: bool
) -> None:
    judge, threads = FeedbackEntries.line, []

    def line(self: FeedbackEntries, *given: Any) -> tuple[bytes, str]:
        threads.append(threading.current_thread() is threading.main_thread())
        return judge(self, *given)

    async def test(here: Bench) -> None:
        monkeypatch.setattr(FeedbackEntries, "line", line)
        await here.tell(await here.predict("tags", *[0.1] * 3 * rows, rows=rows), **entry)
        assert threads == [on_the_loop]

    on_bench(tmp_path, test, "tags")


@pytest.mark.parametrize("model", ["price", "tags", "pets", "both"])
def test_rows_beyond_some_thousand_are_counted_and_only_the_response_says_them(tmp_path: Path, model: str) -> None:
    async def test(here: Bench) -> None:
        width = 3 if model == "both" else WIDTHS[model]
        row = [7.0, -1.0, 0.5][:width]
        _, many = [await here.predict(model, *row * rows, rows=rows) for rows in (MOST_ROWS, MOST_ROWS + 1)]
        (_, shown), (_, hidden) = here.predicted()
        assert (len(next(iter(shown.values()))), hidden) == (MOST_ROWS, None)
        record = await here.tell(many, reward=[1.0] * (MOST_ROWS + 1), row=None)
        assert record["outcomes"] == {"reward": 1}
        place = {"price": bin_of(7.0, (0, 100)), "pets": 0, "both": 0}.get(model)
        counted = here.gateway.served(model).stable.tally.read().classes.sum(axis=0)
        assert counted.sum() == (0 if place is None else 2 * MOST_ROWS + 1)
        assert place is None or counted[place] == 2 * MOST_ROWS + 1

    on_bench(tmp_path, test, model)


def test_numbers_of_rows_are_recorded_as_short_as_in_the_response(tmp_path: Path) -> None:
    async def test(here: Bench) -> None:
        await here.predict("price", 0.1, 0.7, rows=2)
        assert here.predicted() == [(None, {"y": [0.1, 0.7]})]
        odd = {"y": np.array([math.nan, math.inf, -1], np.float32)}
        assert predictions_part(odd) == b',"predictions":{"y":[null,null,-1.0]}'
        assert predictions_bytes(odd) == 75

    on_bench(tmp_path, test, "price")


def test_late_truth_of_the_former_stable_is_compared_as_that_predicted(tmp_path: Path) -> None:
    """It is kept for an undo, and the new stable has other outputs."""

    async def test(here: Bench) -> None:
        one = await here.predict("pets", 1, 0, 0)
        served = here.gateway.served("pets")
        former, other = served.stable, here.gateway.served("price").stable
        token = here.gateway.recorder.signer.read(one)
        served.versions, served.stable, served.kept = {2: other}, other, former
        assert token.version == former.number
        assert (await here.tell(one, truth="dog"))["outcomes"] == {"wrong": 1, "loss": 1}
        served.versions, served.stable, served.kept = {1: former}, former, None

    on_bench(tmp_path, test, "pets", "price")
