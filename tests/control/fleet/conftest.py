"""A real Redis for the tests of a module."""

from collections.abc import Iterator

import pytest

from tests.control.fleet.servers import RedisServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """It leaves out the disk: what it survives is not the subject."""
    with RedisServer(tmp_path_factory.mktemp("redis"), "--appendonly", "no") as server:
        yield server
