"""The threads that execute a version's runs: as many as there are runs under way, up to a maximum.

Unlike the threads of concurrent.futures, they can be started before there is anything to run, and a run that finds no
thread is dropped: concurrent.futures would keep it and run it later, when no one waits for it any more.
"""

import logging
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, Protocol

from gateway.errors import ModelUnavailable, Overloaded

REMEDY: Final = "allow more (ulimit -u; in containers pids.max), or serve fewer models"
log: Final = logging.getLogger("gateway.backends")
_Run = tuple[Callable[..., None], tuple[Any, ...]]


class Executor(Protocol):
    """Runs functions in threads; `submit` raises RuntimeError if there is no thread."""

    def submit(self, function: Callable[..., None], /, *args: Any) -> Any: ...


class _Shared:
    """The state that the threads share. It does not refer to RunThreads, with whose last reference they end."""

    def __init__(self) -> None:
        self.waiting: SimpleQueue[_Run | None] = SimpleQueue()
        self.lock = threading.Lock()
        self.unfinished = 0  # runs queued or under way


class RunThreads:
    """At most `max_threads` threads called `name`. They end with the last reference to this."""

    def __init__(self, max_threads: int, name: str) -> None:
        self._max_threads = max_threads
        self._name = name
        self._started = 0
        self._shared = _Shared()
        weakref.finalize(self, _end, self._shared, max_threads)

    def start(self) -> None:
        """Start all threads now. Raises ModelUnavailable if the system allows no more."""
        try:
            while self._started < self._max_threads:
                self._start_one()
        except RuntimeError as error:
            raise ModelUnavailable(f"{self._name}: there are no threads for it to run in ({error}); {REMEDY}") from None

    def submit(self, function: Callable[..., None], *args: Any) -> None:
        """Run the function soon. Raises RuntimeError if there is no thread at all; then it never runs."""
        shared = self._shared
        with shared.lock:
            shared.unfinished += 1
            wanted = shared.unfinished
        if self._started < min(wanted, self._max_threads):
            try:
                self._start_one()
            except RuntimeError:
                if not self._started:
                    with shared.lock:
                        shared.unfinished -= 1
                    raise
        shared.waiting.put((function, args))

    def _start_one(self) -> None:
        name = f"{self._name}_{self._started}"
        threading.Thread(target=_work, args=(self._shared,), name=name, daemon=True).start()
        self._started += 1


def no_thread(error: RuntimeError) -> Overloaded:
    """The error for a request that no thread can be started for."""
    return Overloaded(f"there is no thread for the model to run in ({error}); try again later, or {REMEDY}")


def _work(shared: _Shared) -> None:
    while (run := shared.waiting.get()) is not None:
        function, args = run
        try:
            function(*args)
        except Exception as error:  # the loop that waits for the result has been closed
            log.debug("a run could not be handed back: %s", error)
        with shared.lock:
            shared.unfinished -= 1
        del run, function, args  # otherwise its arguments would be kept until the next run


def _end(shared: _Shared, max_threads: int) -> None:
    for _ in range(max_threads):
        shared.waiting.put(None)
