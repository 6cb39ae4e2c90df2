"""The split as clients see it over HTTP, with a configuration like the shipped one."""

import http.client
import json
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from gateway.routing.buckets import BUCKETS, bucket_of
from tests.backends import onnx_models
from tests.backends.onnx_models import FLOAT, save
from tests.running import GatewayProcess
from tests.wire import row

CUSTOMERS = [f"customer-{number}" for number in range(1999)] + ["客户"]
SHARE = 0.3
ROUTING: Any = {
    "models": {
        "digits": {
            "stable": 1,
            "candidate": 2,
            "split": {
                "stickiness": "customer",
                "routes": [
                    {"name": "pilot", "match": [{"customer": {"in": ["acme", "globex"]}}], "weight": 100},
                    {
                        "name": "eu-images",
                        "match": [{"modality": "image", "headers": {"x-region": {"prefix": "eu-"}}}],
                        "weight": 100,
                    },
                    {"name": "barred", "match": [{"parameters": {"tier": "gold"}}], "weight": 0},
                    {"name": "everyone", "weight": 100 * SHARE},
                ],
            },
        },
        "by_device": {
            "stable": 1,
            "canary": 2,
            "split": {
                "stickiness": "header:X-Device",
                "salt": "devices",
                "routes": [{"name": "half", "weight": 50}],
            },
        },
        "tickets": {
            "stable": 1,
            "candidate": 2,
            "split": {"routes": [{"name": "beta", "match": [{"customer": {"prefix": "beta-"}}], "weight": 100}]},
        },
        "closed": {"stable": 1},
    }
}


class Client:
    """A connection that makes predictions."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)

    def ask(self, path: str, parameters: Any = None, **headers: str) -> tuple[str, str, str]:
        """The variant, version and route of the answer, after checking that all parts of the answer agree on them."""
        encoded = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
        self._connection.request("POST", f"/v2/models/{path}/infer", json.dumps(row(**(parameters or {}))), encoded)
        answer = self._connection.getresponse()
        body = json.loads(answer.read())
        assert answer.status == 200, body
        said = body["parameters"]
        assert answer.headers["x-variant"] == said["variant"]
        assert answer.headers["x-model-version"] == body["model_version"]
        assert answer.headers["x-prediction-id"] == said["prediction_id"]
        assert body["outputs"][0]["data"] == ([2, 4] if body["model_version"] == "1" else [1, 4])
        return said["variant"], body["model_version"], said["route"]

    def close(self) -> None:
        self._connection.close()


def squaring(path: Path) -> Path:
    """Version 2 of every model here, while version 1 doubles: an input of [1, 2] tells them apart."""
    return save(path, [helper.make_node("Mul", ["x", "x"], ["y"])], {"x": (FLOAT, ["n", 2])}, {"y": (FLOAT, ["n", 2])})


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("split")
    for name in [*ROUTING["models"], "unrouted"]:
        onnx_models.doubling(folder / "models" / name / "1" / "model.onnx")
        squaring(folder / "models" / name / "2" / "model.onnx")
    (folder / "models" / "digits" / "model.yaml").write_text("modality: image\n")
    with GatewayProcess(folder, folder / "models", ROUTING) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[Client]:
    client = Client(gateway)
    yield client
    client.close()


def drawn(salt: str, key: str, share: float, route: str) -> tuple[str, str, str]:
    """The expected result of the split."""
    candidate = bucket_of(salt, key) < share * BUCKETS
    return ("candidate", "2", route) if candidate else ("stable", "1", route)


@pytest.mark.parametrize("customer", ["acme", "globex"])
def test_listed_customer_gets_the_candidate(client: Client, customer: str) -> None:
    wanted = ("candidate", "2", "pilot")
    assert client.ask("digits", x_customer_id=customer) == wanted
    assert client.ask("digits", {"customer": customer}) == wanted
    assert client.ask("digits", {"customer": "joe"}, x_customer_id=customer) == wanted, "the header is found first"


def test_header_and_modality_of_the_model_choose_the_route(client: Client) -> None:
    assert client.ask("digits", x_customer_id="joe", x_region="eu-west") == ("candidate", "2", "eu-images")
    assert client.ask("digits", x_customer_id="joe", X_Region="eu-") == ("candidate", "2", "eu-images")
    everyone = drawn("digits-2", "joe", SHARE, "everyone")
    assert client.ask("digits", x_customer_id="joe", x_region="us-eu-") == everyone
    assert client.ask("digits", x_customer_id="joe", x_region="eu-west", x_modality="text") == everyone
    assert client.ask("digits", {"modality": "text"}, x_customer_id="joe", x_region="eu-west") == everyone


def test_parameter_chooses_the_route(client: Client) -> None:
    for customer in CUSTOMERS[:20]:
        assert client.ask("digits", {"tier": "gold"}, x_customer_id=customer) == ("stable", "1", "barred")


def test_request_that_no_route_matches_goes_to_stable(client: Client) -> None:
    assert client.ask("tickets", x_customer_id="beta-1") == ("candidate", "2", "beta")
    assert client.ask("tickets", x_customer_id="alpha") == ("stable", "1", "default")
    assert client.ask("tickets") == ("stable", "1", "default")
    assert client.ask("closed", x_customer_id="acme") == ("stable", "1", "default")


def test_pinned_version_is_not_split(client: Client) -> None:
    for version in ("1", "2"):
        assert client.ask(f"digits/versions/{version}", x_customer_id="acme") == ("pinned", version, "pinned")


def test_version_follows_the_customer_s_bucket_and_the_share_the_weight(client: Client) -> None:
    answers = [client.ask("digits", x_customer_id=customer) for customer in CUSTOMERS]
    assert answers == [drawn("digits-2", customer, SHARE, "everyone") for customer in CUSTOMERS]
    found = sum(variant == "candidate" for variant, _, _ in answers) / len(answers)
    assert abs(found - SHARE) < 4 * sqrt(SHARE * (1 - SHARE) / len(answers))


def test_customer_always_gets_the_same_version(gateway: GatewayProcess) -> None:
    for customer in CUSTOMERS[:30]:
        client = Client(gateway)
        assert {client.ask("digits", x_customer_id=customer) for _ in range(3)} == {
            drawn("digits-2", customer, SHARE, "everyone")
        }
        client.close()


def test_predictions_without_a_customer_are_split_at_random(client: Client) -> None:
    """A fair split exceeds these bounds once in a million million runs."""
    answers = [client.ask("digits")[0] for _ in range(1000)]
    assert abs(answers.count("candidate") / 1000 - SHARE) < 7 * sqrt(SHARE * (1 - SHARE) / 1000)


def test_split_can_be_sticky_by_a_header(client: Client) -> None:
    for number in range(100):
        wanted = drawn("devices", f"device-{number}", 0.5, "half")
        assert client.ask("by_device", x_device=f"device-{number}") == wanted
        assert client.ask("by_device", x_device=f"device-{number}", x_customer_id=f"c-{number % 7}") == wanted


def test_model_without_an_entry_is_served_by_its_highest_version(client: Client) -> None:
    assert client.ask("unrouted", x_customer_id="acme") == ("stable", "2", "default")
