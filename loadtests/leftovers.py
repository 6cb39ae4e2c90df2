"""What a run has left behind although it has ended: processes, memory files and sockets, told by its state folder."""

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from gateway.shm.owner import PREFIX, read_id
from gateway.shm.segment import memory_folder

MARK: Final = "LOADTESTS_STATE"  # an environment variable that all processes of a run inherit: its state folder
ENDED_WITHIN_S: Final = 10.0
LISTENING: Final = "0A"  # in /proc/net/tcp


class Leftovers:
    """Those of the run on the state folder `state`, with sockets on `ports`. Made while the folder has its memory id;
    read after the run.
    """

    def __init__(self, state: Path, ports: Collection[int]) -> None:
        self._mark = f"{MARK}={state}".encode()
        self._memory = f"{memory_folder()}/{PREFIX}{read_id(state)}."
        self._ports = ports

    def after(self, seconds: float = ENDED_WITHIN_S) -> list[str]:
        """What is still there after so long: some notice the end of control only when they look."""
        end = time.monotonic() + seconds
        while (found := self.found()) and time.monotonic() < end:
            time.sleep(0.1)
        return found

    def found(self) -> list[str]:
        """One line for each, empty if all is gone."""
        files = sorted(memory_folder().glob(f"{Path(self._memory).name}*"))
        processes = [f"process {pid} ({_command(pid)})" for pid in self.processes()]
        return [*processes, *map(str, files), *(f"a socket on port {port}" for port in self._open_ports())]

    def processes(self) -> list[int]:
        """The pids of all processes that were started for the run, or have its memory mapped."""
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
        return [pid for pid in pids if pid != os.getpid() and self._is_of(pid)]

    def end(self) -> None:
        """Kill the processes, and remove the memory files."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for path in memory_folder().glob(f"{Path(self._memory).name}*"):
            path.unlink(missing_ok=True)

    def _is_of(self, pid: int) -> bool:
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):  # it has ended; a zombie's files are empty
            if self._mark in (process / "environ").read_bytes().split(b"\0"):
                return True
            return self._memory in (process / "maps").read_text()
        return False

    def _open_ports(self) -> Iterator[int]:
        for file in ("/proc/net/tcp", "/proc/net/tcp6"):
            with contextlib.suppress(FileNotFoundError):
                for line in Path(file).read_text().splitlines()[1:]:
                    _, local, _, state, *_ = line.split()
                    port = int(local.rpartition(":")[2], 16)
                    if state == LISTENING and port in self._ports:
                        yield port


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    return "ended"
