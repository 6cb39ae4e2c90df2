"""When the frames that a worker sends to a version's process go out, and in which order."""

import asyncio
import os
import socket
import time
from typing import Final

import uvloop

from gateway.backends.process.frames import FrameReader
from gateway.backends.process.link import HURRY_NS, Link
from gateway.backends.process.protocol import CALL, CANCEL
from gateway.shm.arena import Arena, ArenaView

MUCH_TIME_NS: Final = 60_000_000_000


async def _send_and_receive(process: socket.socket, link: Link) -> None:
    frames = FrameReader()

    def received() -> list[tuple[int, int]]:
        try:
            return [(kind, number) for kind, number, _ in frames.feed(process.recv(1 << 16))]
        except BlockingIOError:
            return []

    def call(number: int, *, hurried: bool = False) -> None:
        deadline_ns = time.monotonic_ns() + (HURRY_NS // 2 if hurried else MUCH_TIME_NS)
        link.call(number, deadline_ns, 0, b"[]", alone=False)

    call(1, hurried=True)
    assert received() == [(CALL, 1)]
    call(2)
    call(3)
    assert received() == []
    while not (found := received()):
        await asyncio.sleep(0)
    assert found == [(CALL, 2), (CALL, 3)]
    call(4)
    link.send(CANCEL, 4)
    call(5)
    assert received() == [(CALL, 4), (CANCEL, 4)]
    call(6, hurried=True)
    assert received() == [(CALL, 5), (CALL, 6)]


async def _connected() -> None:
    arena = Arena()
    own, process = socket.socketpair()
    process.setblocking(False)
    lost = asyncio.Event()
    link = Link(ArenaView(os.dup(arena.file)), lambda *_: None, lambda _: lost.set())
    link.greeted.set_result({})
    await asyncio.get_running_loop().create_connection(lambda: link, sock=own)
    try:
        await _send_and_receive(process, link)
    finally:
        link.close()
        link.send(CANCEL, 7)  # goes nowhere
        await lost.wait()
        process.close()
        arena.close()


def test_calls_made_together_go_out_together_those_with_little_time_at_once_and_all_frames_in_order() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_connected())
