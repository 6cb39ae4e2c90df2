"""The template of all versions' processes: `python -m gateway.backends.process FD`, FD being a socket to control.

It imports everything once and forks: so a version's process starts in milliseconds, also after a crash, and the
libraries are in memory once however many candidates there are. It opens no session and starts no thread itself.

    from control    a line of JSON (`start.ProcessStart`), with the two descriptors that the process gets
    to control      {"started": pid}, and {"ended": pid, "code": code} when a process has ended (as `subprocess` has it)

It ends when control closes its end; the processes go on.
"""

import gc
import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from gateway.backends.process.run import run
from gateway.backends.process.start import MAX_START, ProcessStart
from gateway.system.scheduling import reset_priority

NAME_LENGTH: Final = 15  # of a process, for the system


class _Template:
    """`control`: the socket to control; `woken`: readable when a child may have ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._woken, self._waker = socket.socketpair()
        for one in (self._woken, self._waker):
            one.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # with a handler it wakes the selector
        signal.set_wakeup_fd(self._waker.fileno())

    def serve(self) -> None:
        """Fork for each message, and tell what has ended, until control is gone. Returns in the template only."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        self._woken.recv(1 << 12)
                        self._reap()
                    elif not self._fork():
                        return

    def _fork(self) -> bool:
        """Whether control is there still."""
        line, files, _, _ = socket.recv_fds(self._control, MAX_START, 2)
        if not line:
            return False
        start, (listening, control) = ProcessStart(**json.loads(line)), files
        pid = os.fork()
        if not pid:
            self._become(start, listening, control)
        for file in files:
            os.close(file)
        self._say({"started": pid})
        return True

    def _become(self, start: ProcessStart, listening: int, control: int) -> None:
        """In the child: forget the template and run the version. Does not return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in (self._control, self._woken, self._waker):
                one.close()
            _call_process(f"{start.name}-{start.version}")
            run(start, socket.socket(fileno=listening), socket.socket(fileno=control))
            code = 0
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._say({"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    def _say(self, news: dict[str, int]) -> None:
        self._control.sendall(json.dumps(news).encode() + b"\n")


def _call_process(name: str) -> None:
    """What `top` and `ps -o comm` show."""
    try:
        Path("/proc/self/comm").write_bytes(name.encode()[:NAME_LENGTH])
    except OSError:
        return


def main() -> None:
    """The template. What is sent to the whole group, as Ctrl-C in a terminal is, control answers for all."""
    for number in (signal.SIGINT, signal.SIGTERM):  # workers that drain still need the versions' processes
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # control's own limit, inherited (gateway.system.scheduling)
    reset_priority()
    gc.collect()
    gc.freeze()  # a collection would write to every object, and so copy the pages that are shared
    try:
        _Template(socket.socket(fileno=int(sys.argv[1]))).serve()
    except BrokenPipeError:
        return  # control is gone


if __name__ == "__main__":
    main()
