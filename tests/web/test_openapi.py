"""Both planes do what their OpenAPI documents say: every route is in them, and no request gets any other answer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.web import described
from gateway.web.metadata import Metadata
from gateway.web.openapi import Operation
from gateway.web.repository import RepositoryApi
from tests.running import GatewayProcess

ROOT = Path(__file__).parents[2]
PLANES = ("data", "control")
EXAMPLES = 12
CHECKS = [checks.not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
STREAMS = "/api/events"  # never ends by itself: tests/web/test_events.py reads it


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("openapi")
    gateway = GatewayProcess(folder, ROOT / "models")
    (folder / "routing.yaml").write_text((ROOT / "config" / "routing.yaml").read_text())
    with gateway:
        yield gateway


def url(running: GatewayProcess, plane: str) -> str:
    return running.url if plane == "data" else running.control_url


@pytest.mark.parametrize("plane", PLANES)
def test_no_request_gets_an_answer_that_is_not_described(running: GatewayProcess, plane: str) -> None:
    address = url(running, plane)
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    tried: set[str] = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == STREAMS:
            continue
        tried.add(operation.path)

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        @pytest.mark.filterwarnings("ignore")
        def try_it(case: Any) -> None:
            case.call_and_validate(base_url=address, checks=CHECKS, timeout=30)

        strategy = operation.as_strategy()
        from hypothesis import given

        given(case=strategy)(try_it)()
    assert len(tried) >= 10
