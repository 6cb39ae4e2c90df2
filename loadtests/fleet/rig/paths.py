"""The hosts' ways to the store through the proxy, which can be slow, one-way or refused."""

import subprocess
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Final

from loadtests.fleet.rig.namespaces import Namespace
from loadtests.fleet.rig.store_proxy import MODES, PASS

FIRST_PORT: Final = 7000


class Paths:
    """`ports`: the proxy's, one for each of `count` hosts. The proxy runs in the store's namespace."""

    def __init__(self, namespace: Namespace, store_port: int, count: int) -> None:
        self.ports = list(range(FIRST_PORT, FIRST_PORT + count))
        words = [sys.executable, "-m", "loadtests.fleet.rig.store_proxy", str(store_port), *map(str, self.ports)]
        self._process = subprocess.Popen(
            namespace.command(*words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def __enter__(self) -> "Paths":
        try:
            self._heard("ready")
        except BaseException:  # no `__exit__` follows
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def set(self, numbers: Iterable[int], mode: str = PASS, delay_s: float = 0.0) -> None:
        """Set the mode, one of MODES, of these hosts' ways; `delay_s` in each direction. In force on return."""
        assert mode in MODES
        assert self._process.stdin is not None
        for number in numbers:
            self._process.stdin.write(f"{self.ports[number]} {mode} {delay_s}\n")
            self._heard("done")

    def _heard(self, expected: str) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if line != expected:
            raise SystemExit(f"the proxy before the store has ended: {line or self._process.wait()}")
