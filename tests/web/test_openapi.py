"""Both planes conform to their OpenAPI documents: every route is described, and so is every answer."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway import __version__
from gateway.worker.http.access import required_scopes
from gateway.worker.http.app import OPENAPI, routes
from tests.running import GatewayProcess
from tests.security.guarded import Guarded, bearer, guarded

ROOT = Path(__file__).parents[2]
EXAMPLES = 16
CHECKS = [checks.not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
STREAMS = "/api/events"  # never ends by itself: tests/control/api/test_event_stream.py reads it
schemathesis.serializer.alias("application/x-tar", "application/octet-stream")
THERE = st.sampled_from(["digits", "tickets", "tumor", None])  # None: whatever schemathesis thinks of


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("openapi")
    gateway = GatewayProcess(folder, ROOT / "models")
    (folder / "routing.yaml").write_text((ROOT / "config" / "routing.yaml").read_text())
    with gateway:
        yield gateway


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("plane", ["data", "control"])
def test_every_answer_is_described_in_openapi(running: GatewayProcess, plane: str, mode: GenerationMode) -> None:
    address = running.url if plane == "data" else running.control_url
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    seen: Counter[int] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path != STREAMS and (mode is GenerationMode.POSITIVE or operation.body):
            seen += answers(address, operation, mode)
    assert seen.keys() >= ({200, 404} if mode is GenerationMode.POSITIVE else {400, 404}), seen


@pytest.mark.parametrize("caller", [None, "feeder", "all"])
@pytest.mark.parametrize("plane", ["data", "control"])
def test_every_answer_is_described_in_openapi_with_keys(guarded_one: Guarded, plane: str, caller: str | None) -> None:
    """Without a key, with a key of few scopes, and with one of all scopes."""
    address = guarded_one.gateway.url if plane == "data" else guarded_one.gateway.control_url
    headers = bearer(guarded_one.keys["all"])
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json", headers=headers)
    seen: Counter[int] = Counter()
    for found in schema.get_all_operations():
        if found.ok().path != STREAMS:
            key = guarded_one.keys[caller] if caller else None
            seen += answers(address, found.ok(), GenerationMode.POSITIVE, 3, **bearer(key))
    assert {None: 401, "feeder": 403, "all": 200}[caller] in seen


@pytest.fixture(scope="module")
def guarded_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    started = guarded(tmp_path_factory.mktemp("guarded"))
    with started.gateway:
        yield started


def answers(
    address: str, operation: Any, mode: GenerationMode, examples: int = EXAMPLES, **headers: str
) -> Counter[int]:
    """The statuses of the answers to requests for one operation; each answer is validated."""
    seen: Counter[int] = Counter()

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), model=THERE)
    def try_it(case: Any, model: str | None) -> None:
        if model and "model" in case.path_parameters:
            case.path_parameters["model"] = model
        response = case.call_and_validate(base_url=address, checks=CHECKS, timeout=30, headers=headers)
        seen[response.status_code] += 1

    try_it()
    return seen


@dataclass
class NoModels:
    """For routes that are looked at and not called."""

    catalog: None = None


def test_every_route_of_the_data_plane_is_in_its_document_with_what_the_door_may_answer() -> None:
    found = routes(NoModels(), 0, None)  # type: ignore[arg-type]
    served = {(method, route.path) for route in found for method in (route.methods or ()) if method != "HEAD"}
    infer = {("POST", f"/v2/models/{{model}}{pin}/infer") for pin in ("", "/versions/{version}")}
    document = orjson.loads(OPENAPI)
    described = {
        (method.upper(), path): one for path, item in document["paths"].items() for method, one in item.items()
    }
    assert described.keys() == served | infer
    for (_, path), operation in described.items():
        assert (operation["responses"].keys() >= {"400", "401", "403"}) == (required_scopes(path) is not None), path


def test_the_document_of_the_data_plane_is_of_this_version_and_uses_all_that_it_defines() -> None:
    document = orjson.loads(OPENAPI)
    assert document["info"]["version"] == __version__
    references = set(re.findall(rb'"#/components/(.+?)"', OPENAPI))
    components = {f"{kind}/{name}".encode() for kind, items in document["components"].items() for name in items}
    assert references == components - {b"securitySchemes/key"}


def test_openapi_documents_are_served_by_both_planes(running: GatewayProcess) -> None:
    for address in (running.url, running.control_url):
        answer = httpx.get(f"{address}/openapi.json")
        document = answer.json()
        assert answer.headers["content-type"] == "application/json"
        assert document["openapi"] == "3.1.0"
        identities = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
        assert len(identities) == len(set(identities)) >= 10
