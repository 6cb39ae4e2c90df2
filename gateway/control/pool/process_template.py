"""Starts the processes of versions: through a template process that has imported everything and forks."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from typing import Final

import orjson

from gateway.backends.process.start import ProcessStart

UNKNOWN: Final = -1000  # the code of a process whose template has ended: no one was told how it ended
RECEIVE: Final = 1 << 16
END_WITHIN_S: Final = 2.0  # a template that has not ended by then is killed


class ForkedProcess:
    """A version's process. `ended`: its exit code, as `subprocess` has it, or UNKNOWN."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        """End it at once."""
        if not self.ended.done():
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)


class ProcessTemplate:
    """Runs on control's loop. The template is started with the first version that needs it, and again if it dies."""

    def __init__(self) -> None:
        self._asking = asyncio.Lock()
        self._socket: socket.socket | None = None
        self._template: subprocess.Popen[bytes] | None = None
        self._started: asyncio.Future[int] | None = None
        self._processes: dict[int, ForkedProcess] = {}
        self._early: dict[int, int] = {}  # codes of processes that ended before they were known to have started
        self._rest = b""

    async def fork(self, start: ProcessStart, listening: int, control: int) -> ForkedProcess:
        """A new process with copies of these two descriptors. Raises OSError.

        Goes on if the caller is cancelled: the next answer of the template must not be taken for another's.
        """
        files = [os.dup(listening), os.dup(control)]
        asking = asyncio.get_running_loop().create_task(self._fork(start, files))
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, whoever waits
        return await asyncio.shield(asking)

    async def _fork(self, start: ProcessStart, files: list[int]) -> ForkedProcess:
        try:
            async with self._asking:
                link = self._socket or self._begin()
                self._started = asyncio.get_running_loop().create_future()
                socket.send_fds(link, [orjson.dumps(asdict(start)) + b"\n"], files)
                pid = await self._started
                process = self._processes[pid] = ForkedProcess(pid)
                if (code := self._early.pop(pid, None)) is not None:
                    self._is_over(pid, code)
                return process
        finally:
            for file in files:
                os.close(file)

    async def close(self) -> None:
        """End the template; the processes go on."""
        template = self._template
        self._lost()
        if template is not None:
            await asyncio.to_thread(_end, template)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                command = [sys.executable, "-m", "gateway.backends.process", str(theirs.fileno())]
                self._template = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read)
        self._socket = ours
        return ours

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            news = orjson.loads(line)
            if "started" in news:
                assert self._started is not None
                self._started.set_result(news["started"])
            elif news["ended"] in self._processes:
                self._is_over(news["ended"], news["code"])
            else:
                self._early[news["ended"]] = news["code"]

    def _is_over(self, pid: int, code: int) -> None:
        self._processes.pop(pid).ended.set_result(code)

    def _lost(self) -> None:
        """The template has ended, or shall: no one tells any more how its processes end."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
        template, self._socket, self._rest = self._template, None, b""
        self._template = None
        if template is not None:
            template.poll()
        if self._started is not None and not self._started.done():
            self._started.set_exception(ConnectionResetError("the template of the versions' processes has ended"))
        for pid in list(self._processes):
            self._is_over(pid, UNKNOWN)


def _end(template: "subprocess.Popen[bytes]") -> None:
    try:
        template.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        template.kill()
        template.wait()
