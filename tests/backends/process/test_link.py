"""When the frames that a worker sends to a version's process go out, and in which order."""

import asyncio
import os
import socket

import uvloop

from gateway.backends.process.frames import FrameReader
from gateway.backends.process.link import Link
from gateway.backends.process.protocol import CALL, CANCEL
from gateway.shm.arena import Arena, ArenaView


async def _send_and_receive(process: socket.socket, link: Link) -> None:
    frames = FrameReader()

    def received() -> list[tuple[int, int]]:
        try:
            return [(kind, number) for kind, number, _ in frames.feed(process.recv(1 << 16))]
        except BlockingIOError:
            return []

    def call(number: int, *, at_once: bool) -> None:
        link.call(number, 0, 0, b"[]", alone=False, at_once=at_once)

    call(1, at_once=True)
    assert received() == [(CALL, 1)]
    call(2, at_once=False)
    call(3, at_once=False)
    assert received() == []
    await asyncio.sleep(0)
    assert received() == [(CALL, 2), (CALL, 3)]
    call(4, at_once=False)
    link.send(CANCEL, 4)
    call(5, at_once=False)
    assert received() == [(CALL, 4), (CANCEL, 4)]
    call(6, at_once=True)
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


def test_calls_of_an_iteration_of_the_loop_go_out_together_and_all_frames_in_order() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_connected())
