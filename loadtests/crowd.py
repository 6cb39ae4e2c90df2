"""A client that goes on asking while a scenario does other things."""

import threading
from collections.abc import Callable
from typing import Final

from loadtests.client import Client
from loadtests.recorded import Told

CONNECTIONS: Final = 16
SLICE_S: Final = 0.05
Job = Callable[[Client], None]


class Crowd:
    """A thread that keeps connections busy, and between two slices does what it is asked to."""

    def __init__(self, address: tuple[str, int], request: bytes, told: Told) -> None:
        self._client = Client(address, CONNECTIONS, lambda: request, reconnect=True)
        self._told = told
        self._jobs: list[tuple[Job, threading.Event]] = []
        self._ended = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Requests whose connection ended before their answer."""
        return self._client.lost

    def between(self, job: Job) -> None:
        """Have it done while nothing is out; returns when it is."""
        done = threading.Event()
        self._jobs.append((job, done))
        while not done.wait(0.1):
            self._check()
        self._check()

    def end(self) -> None:
        """Wait for the answers that are out, and close."""
        self._ended.set()
        self._thread.join()
        self._client.__exit__()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                if self._jobs:
                    job, done = self._jobs.pop(0)
                    job(self._client)
                    done.set()
                self._client.keep_busy(SLICE_S, self._told)
        except Exception as error:
            self._error = error
