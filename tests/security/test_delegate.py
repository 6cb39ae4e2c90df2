"""A back end whose key has the scope delegate predicts, and gives feedback, for the customers that it names."""

import gzip
import json
from typing import Any

import pytest

from tests.processes.flawed import until
from tests.security.guarded import Guarded, document

WAYS: dict[str, tuple[bytes, dict[str, str]]] = {
    "header": (document(), {"x_customer_id": "globex"}),
    "parameter": (document(customer="globex"), {}),
    "large": (document(customer="globex").ljust(200_000), {}),
    "compressed": (gzip.compress(document()), {"x_customer_id": "globex", "content-encoding": "gzip"}),
    "with ids": (document(), {"x_customer_id": "globex", "x-request-id": "r-1"}),
}


def recorded(running: Guarded, kind: str, prediction_id: str) -> list[Any]:
    records = running.file.parent / "state" / "records"
    lines = [line for path in records.glob(f"{kind}-*") for line in path.read_bytes().split(b"\n")[:-1]]
    return [one for one in map(json.loads, lines) if one["prediction_id"] == prediction_id]


@pytest.mark.parametrize("way", WAYS)
def test_named_customer_is_routed_and_recorded_with_who_sent_it(running: Guarded, way: str) -> None:
    body, headers = WAYS[way]
    answer = running.infer("shop", body, **headers)
    assert (answer.status_code, answer.headers["x-variant"]) == (200, "candidate"), "as globex by itself"
    prediction_id = answer.headers["x-prediction-id"]
    until(lambda: len(recorded(running, "predictions", prediction_id)) == 1, "the record")
    (record,) = recorded(running, "predictions", prediction_id)
    assert (record["customer"], record["delegated_by"]) == ("globex", "shop")
    assert record.get("request_id") == headers.get("x-request-id")


def test_request_of_the_key_itself_is_recorded_without_a_delegate(running: Guarded) -> None:
    prediction_id = running.infer("shop").headers["x-prediction-id"]
    until(lambda: len(recorded(running, "predictions", prediction_id)) == 1, "the record")
    (record,) = recorded(running, "predictions", prediction_id)
    assert (record["customer"], "delegated_by" in record) == ("shop", False)


def test_feedback_is_recorded_for_the_named_customer(running: Guarded) -> None:
    prediction_id = running.infer("shop", x_customer_id="globex").headers["x-prediction-id"]
    url, item = f"{running.gateway.url}/v2/feedback", {"prediction_id": prediction_id, "reward": 1}
    refused = running.ask("feeder", "POST", url, json=item, headers={"x-customer-id": "globex"})
    assert (refused.status_code, "scope delegate" in refused.json()["error"]) == (403, True)
    for named in ({"x-customer-id": "globex"}, {}):
        assert running.ask("shop", "POST", url, json=item, headers=named).json()["accepted"] == 1
    until(lambda: len(recorded(running, "feedback", prediction_id)) == 2, "both records")
    by = [(one["customer"], one.get("delegated_by")) for one in recorded(running, "feedback", prediction_id)]
    assert by == [("globex", "shop"), ("shop", None)]
