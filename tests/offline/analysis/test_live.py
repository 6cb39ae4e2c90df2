"""`gateway analyze` and `replay` on what a running gateway recorded of rescued and mirrored requests."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from gateway.offline.reader import records_in
from gateway.records.segments import read
from loadtests import models
from tests.offline.dataset.test_commands import command
from tests.processes.flawed import body, metric, until
from tests.recording import MODELS, data, json_request, loaded
from tests.running import GatewayProcess

ROWS = 200
BAD_ROWS = 60
FLAWED = {
    "stable": 1,
    "candidate": 2,
    "split": {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 50}]},
    "guards": {"breaker": {"consecutive_failures": 1000}},
}
MIRRORED = {"stable": 1, "candidate": 2, "mirror": {"weight": 100}}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The records of a gateway that has ended. Digits: all stable, mirrored to the candidate, every other one labelled.
    Flawed: customer `negative` sends rows that the candidate answers with NaN."""
    folder = tmp_path_factory.mktemp("live")
    models.flawed(folder / "models", "nan")
    (folder / "models" / "digits").symlink_to(MODELS / "digits")
    routing = {"models": {"digits": MIRRORED, "flawed": FLAWED}}
    gateway = GatewayProcess(folder, folder / "models", routing)
    with gateway, httpx.Client(base_url=gateway.url) as client:
        _digits(client)
        for number in range(BAD_ROWS + 240):
            first, customer = (-1.0, "negative") if number < BAD_ROWS else (1.0, "positive")
            headers = {"x-customer-id": customer}
            client.post("/v2/models/flawed/infer", content=body(first), headers=headers).raise_for_status()
        until(lambda: metric(gateway, "gateway_mirror_total", model="digits") == ROWS, "every copy is accounted for")
    yield gateway


def _digits(client: httpx.Client) -> None:
    feedback = []
    for number in range(ROWS):
        asked = json_request("digits", data("digits").test_x[number : number + 1])
        answer = client.post("/v2/models/digits/infer", content=asked).raise_for_status()
        if number % 2 == 0:
            truth = int(data("digits").test_y[number])
            feedback.append({"prediction_id": answer.headers["x-prediction-id"], "truth": truth})
    assert client.post("/v2/feedback", json=feedback).json()["accepted"] == len(feedback)


def document(gateway: GatewayProcess, *words: str) -> Any:
    return json.loads(command(gateway.config, *words, "--json").stdout)


def mirrors(gateway: GatewayProcess) -> list[dict[str, Any]]:
    return list(read(records_in(gateway.config.parent / "state" / "records").mirrors, "digits"))


def numbers_of(gateway: GatewayProcess) -> dict[str, int]:
    """Which image each prediction was about: they were sent one after the other."""
    predictions = read(records_in(gateway.config.parent / "state" / "records").predictions, "digits")
    ids = [record["prediction_id"] for record in sorted(predictions, key=lambda record: record["time_ns"])]
    return {one: number for number, one in enumerate(ids)}


def test_analyze_lists_disagreements_of_mirrored_requests(recorded: GatewayProcess) -> None:
    said = [
        np.asarray(loaded("digits", version).session.run({"image": data("digits").test_x[:ROWS]})[0])
        for version in (1, 2)
    ]
    numbers, copies = numbers_of(recorded), mirrors(recorded)
    copied = [numbers[copy["prediction_id"]] for copy in copies]
    told = document(recorded, "analyze", "digits")
    apart = {number for number in copied if said[0][number] != said[1][number]}
    assert len(copied) > ROWS // 2, "copies are dropped only where there is no capacity to spare"
    assert apart
    assert (told["mirrored"]["agree"]["hits"], told["mirrored"]["agree"]["count"]) == (
        len(copied) - len(apart),
        len(copied),
    )
    unlabelled = {number for number in apart if number % 2}
    shown = {numbers[doubt["prediction_id"]]: doubt for doubt in told["disagreements"]}
    assert set(shown) <= unlabelled
    assert len(shown) == min(20, len(unlabelled)) > 0
    for number, doubt in shown.items():
        assert (doubt["predicted"], doubt["candidate_predicted"]) == (said[0][number], said[1][number])
    truths = data("digits").test_y
    judged = [number for number in apart if number % 2 == 0]
    assert told["mirrored"]["stable_right"] == sum(said[0][number] == truths[number] for number in judged)
    assert told["mirrored"]["candidate_right"] == sum(said[1][number] == truths[number] for number in judged) > 0


def test_analyze_finds_the_customer_whose_requests_are_rescued(recorded: GatewayProcess) -> None:
    told = document(recorded, "analyze", "flawed")
    assert told["outcomes"] == {"ok": told["rows"]}, "whoever is rescued is answered"
    worst = next(one for one in told["slices"] if (one["dimension"], one["value"]) == ("customer", "negative"))
    assert (worst["measure"], worst["hits"]) == ("rescued", worst["count"]), "all that were to be the candidate's"
    assert told["rescued"]["hits"] == worst["hits"] > 10
    assert worst["rest"]["hits"] == 0


def test_replay_counts_rescued_predictions_as_stable(recorded: GatewayProcess) -> None:
    told = document(recorded, "replay", "flawed", "--version", "1", "--unbatched")
    by_version = {one["version"]: one for one in told["answered_by"]}
    assert sum(one["predictions"] for one in by_version.values()) == told["replayed"] == BAD_ROWS + 240
    assert by_version[1]["exact"] == by_version[1]["predictions"] > BAD_ROWS


def test_replay_of_a_candidate_counts_what_would_be_rescued(recorded: GatewayProcess) -> None:
    """Before it gets traffic: each of the customer's requests, not only those that were assigned to the candidate."""
    for words in ((), ("--unbatched",)):
        told = document(recorded, "replay", "flawed", "--version", "2", *words)
        stable = next(one for one in told["answered_by"] if one["version"] == 1)
        assert stable["unfit"] == BAD_ROWS, "good rows in the same batch are not to blame"
        assert "holds NaN or infinity" in stable["first_error"]
    assert "would be rescued" in command(recorded.config, "replay", "flawed", "--version", "2").stdout
