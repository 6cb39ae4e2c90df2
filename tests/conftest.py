"""Fixtures for several folders of tests: the model zoo, a gateway that serves it, and one for raw connections."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG

from tests import zoo
from tests.running import GatewayProcess
from tests.wire import Wire, looping_models

DEFAULT_TIMEOUT_CONFIG.read = DEFAULT_TIMEOUT_CONFIG.connect = 30.0  # not httpx's 5 s: the machine may be busy


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI nothing may be missing: a skip is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def zoo_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.build(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def zoo_gateway(zoo_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("zoo-gateway")
    with GatewayProcess(folder, zoo_models, server={"max_body": "4MiB"}, limits={"timeout": "20s"}) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def client(zoo_gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=zoo_gateway.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serves `doubling` and `looping`, bodies of 1 MiB at most; its log may hold no traceback in the end."""
    folder = tmp_path_factory.mktemp("gateway")
    models = looping_models(folder / "models", "looping")
    with GatewayProcess(folder, models, server={"max_body": "1MiB"}) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


@pytest.fixture
def wire(gateway: GatewayProcess) -> Iterator[Wire]:
    """A raw connection to `gateway`."""
    with Wire(gateway) as wire:
        yield wire
