"""An archive is fetched whole, or given up: when it is not wanted any more, and when it arrives too slowly."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from gateway.control.command_priority import CommandPriority
from gateway.control.proposals.staged_version import OutOfSpace
from gateway.control.registry import fetched_archive
from gateway.control.registry.fetched_archive import PIECE_BYTES, fetched
from gateway.control.release.disk import DiskThread
from gateway.errors import Conflict

CONTENT = bytes(range(256)) * 10_000  # two pieces and a half


async def arriving(content: bytes = CONTENT) -> AsyncGenerator[bytes, None]:
    for begin in range(0, len(content), 65_536):
        yield content[begin : begin + 65_536]


class Silent:
    """Chunks that never arrive. `ended`: their reader has let go of them."""

    ended = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        yield b"one"
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True


def fetching(
    chunks: AsyncGenerator[bytes, None], folder: Path, unwanted: str = "", **settings: Any
) -> AbstractAsyncContextManager[Any]:
    return fetched(chunks, folder, DiskThread("test"), CommandPriority(), lambda: unwanted, **settings)


def test_an_archive_is_read_as_it_arrived_and_nothing_is_left(tmp_path: Path) -> None:
    async def read() -> list[bytes]:
        async with fetching(arriving(), tmp_path) as pieces:
            return [piece async for piece in pieces]

    pieces = asyncio.run(read())
    assert b"".join(pieces) == CONTENT
    assert [len(piece) for piece in pieces[:-1]] == [PIECE_BYTES] * (len(pieces) - 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("unwanted", "patience_s", "message"),
    [("the alias has moved", 60.0, "^the alias has moved$"), ("", 0.0, "it arrives too slowly: 0 KiB within")],
)
def test_what_does_not_arrive_is_given_up(tmp_path: Path, unwanted: str, patience_s: float, message: str) -> None:
    silent = Silent()

    async def read() -> None:
        async with fetching(silent.chunks(), tmp_path, unwanted, patience_s=patience_s):
            raise AssertionError("it has arrived")

    with pytest.raises(Conflict, match=message):
        asyncio.run(read())
    assert silent.ended


def test_what_is_not_wanted_when_it_has_arrived_is_given_up(tmp_path: Path) -> None:
    async def read() -> None:
        async with fetching(arriving(b"x"), tmp_path, "the alias has moved"):
            raise AssertionError("it is given")

    with pytest.raises(Conflict, match="the alias has moved"):
        asyncio.run(read())


def test_a_fetch_leaves_room_for_others_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched_archive, "MIN_FREE_BYTES", 1 << 62)

    async def read() -> None:
        async with fetching(arriving(), tmp_path):
            raise AssertionError("it is written")

    with pytest.raises(OutOfSpace):
        asyncio.run(read())
