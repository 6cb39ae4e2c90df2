"""The template of the versions' processes ends with control, whatever it is doing then."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import orjson

from gateway.backends.process.start import ProcessStart
from gateway.control.pool.process_template import ProcessTemplate
from tests.backends.onnx_models import doubling, place

START = ProcessStart("", "m", 1, checked=True, behind=True, first_to_go=True)


def test_template_ends_in_silence_if_control_closes_with_unread_news(tmp_path: Path) -> None:
    """A traceback would block it for ever where no one reads stderr, and control waits for it."""
    place(tmp_path, "m", 1, doubling)
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "gateway.backends.process", str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as template:
        theirs.close()
        control, its = socket.socketpair()
        with ours, control, its, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "socket"))
            listening.listen()
            start = asdict(START) | {"repository": str(tmp_path)}
            socket.send_fds(ours, [orjson.dumps(start) + b"\n"], [listening.fileno(), its.fileno()])
            os.kill(orjson.loads(ours.recv(1 << 12))["started"], signal.SIGKILL)
            assert select.select([ours], [], [], 30)[0], "the end of the process is told"
        assert template.wait(30) == 0
        assert template.stderr is not None
        assert template.stderr.read() == b""


def test_suspended_template_does_not_delay_the_end_of_control(tmp_path: Path) -> None:
    async def scenario() -> None:
        template = ProcessTemplate()
        control, its = socket.socketpair()
        with control, its, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "socket"))
            listening.listen()
            process = await template.fork(START, listening.fileno(), its.fileno())
        process.kill()
        await process.ended
        assert template._template is not None
        template._template.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(30):
            await template.close()

    asyncio.run(scenario())
