"""The template of all versions' processes: `python -m gateway.backends.process FD`; FD is a socket to control.

It imports everything once and forks. So a version's process starts in milliseconds, also after a crash, and all
candidates share the libraries' memory. The template opens no session and starts no thread.

    from control    a line of JSON (`start.ProcessStart`), with the two descriptors that the process gets
    to control      {"started": pid}, and {"ended": pid, "code": code} as in `subprocess` when a process has ended

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

NAME_LENGTH: Final = 15  # the system's limit on a process's name


class _Template:
    """Forks processes on control's request, and reports their ends. `control`: the socket to control."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._woken, self._waker = socket.socketpair()
        for one in (self._woken, self._waker):
            one.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # with a handler it wakes the selector
        signal.set_wakeup_fd(self._waker.fileno())

    def serve(self) -> None:
        """Fork for each message and report ended processes until control is gone. Returns in the template only."""
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
        """Fork one process. Returns False if control has closed its end."""
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
        """In the child: close the template's sockets and run the version. Does not return."""
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
    """Set the process name that `top` and `ps -o comm` show."""
    try:
        Path("/proc/self/comm").write_bytes(name.encode()[:NAME_LENGTH])
    except OSError:
        return


def main() -> None:
    """Run the template. It ignores signals to the whole group, such as Ctrl-C: control handles them."""
    for number in (signal.SIGINT, signal.SIGTERM):  # workers that drain still need the versions' processes
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # control's own limit, inherited (gateway.system.scheduling)
    reset_priority()
    gc.collect()
    gc.freeze()  # a collection would write to all objects, and so copy the shared pages
    try:
        _Template(socket.socket(fileno=int(sys.argv[1]))).serve()
    except ConnectionError:
        return  # control is gone, perhaps with news unread


if __name__ == "__main__":
    main()
