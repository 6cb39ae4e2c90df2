"""One gateway with keys and one without, for all of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.flawed import gateway
from tests.running import GatewayProcess
from tests.security.guarded import Guarded, guarded, left_behind


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A gateway with keys. After the tests, no key may be found in any file that it wrote."""
    folder: Path = tmp_path_factory.mktemp("guarded")
    started = guarded(folder, limits={"timeout": "2s"})
    with started.gateway:
        yield started
    assert left_behind(started) == []
    assert "Traceback" not in started.gateway.log


@pytest.fixture(scope="package")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway without keys, on this machine only."""
    folder: Path = tmp_path_factory.mktemp("local")
    with gateway(folder, limits={"timeout": "2s"}) as started:
        yield started
    assert "Traceback" not in started.log
