"""Fixtures for several folders of tests: the model zoo, and a gateway that serves it."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import zoo
from tests.running import GatewayProcess


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
