"""Real servers of other makes, each started once for the tests that only ask it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.protocol.tensors import DATATYPES
from tests.running import GatewayProcess
from tests.servers import mlserver as mlserver_models
from tests.servers import triton as triton_models
from tests.servers.mlserver import MLServerProcess
from tests.servers.process import ServerProcess
from tests.servers.remote import place_remote
from tests.servers.triton import Scaling, TritonProcess


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Has an identity of every datatype, and `scaling`: twice its input in version 1, three times in version 2."""
    folder = tmp_path_factory.mktemp("triton")
    for datatype in DATATYPES:
        triton_models.place(folder / "models", f"identity_{datatype.lower()}", triton_models.identity(datatype))
    triton_models.place(folder / "models", "scaling", Scaling(versions=(1, 2), width=2))
    with TritonProcess(folder, folder / "models") as server:
        yield server


@pytest.fixture(scope="session")
def mlserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Has an identity of every datatype."""
    folder = tmp_path_factory.mktemp("mlserver")
    for datatype in DATATYPES:
        mlserver_models.place(folder, f"identity_{datatype.lower()}", datatype)
    with MLServerProcess(folder) as server:
        yield server


@pytest.fixture(scope="session")
def before_triton(triton: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that has Triton run an identity of every datatype as stable."""
    yield from _identities(tmp_path_factory.mktemp("before-triton"), triton.url)


@pytest.fixture(scope="session")
def before_mlserver(mlserver: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The same before MLServer."""
    yield from _identities(tmp_path_factory.mktemp("before-mlserver"), mlserver.url)


@pytest.fixture(scope="session")
def before_gateway(zoo_gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The same before a second gateway."""
    yield from _identities(tmp_path_factory.mktemp("before-gateway"), zoo_gateway.url)


def _identities(folder: Path, url: str) -> Iterator[GatewayProcess]:
    for datatype in DATATYPES:
        place_remote(folder / "models", f"identity_{datatype.lower()}", 1, url)
    with GatewayProcess(folder, folder / "models") as gateway:
        yield gateway
    assert "Traceback" not in gateway.log
