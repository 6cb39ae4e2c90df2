"""The threads that a version's runs go to: as many as are under way at once, at most as many as it may have.

Unlike concurrent.futures' they can be had before there is anything to run, and what finds no thread is not kept: there,
what could not be started runs at some later time, when no one waits for it any more.
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
    """What runs in threads; `submit` raises RuntimeError where there are none."""

    def submit(self, function: Callable[..., None], /, *args: Any) -> Any: ...


class _Shared:
    """What the threads know of: not whom they work for, with whose last reference they end."""

    def __init__(self) -> None:
        self.waiting: SimpleQueue[_Run | None] = SimpleQueue()
        self.lock = threading.Lock()
        self.unfinished = 0  # runs that wait or are under way


class RunThreads:
    """At most `max_threads` threads called `name`. They end with the last reference to this."""

    def __init__(self, max_threads: int, name: str) -> None:
        self._max_threads = max_threads
        self._name = name
        self._started = 0
        self._shared = _Shared()
        weakref.finalize(self, _end, self._shared, max_threads)

    def start(self) -> None:
        """Have all of them now; raises ModelUnavailable where the system has no more."""
        try:
            while self._started < self._max_threads:
                self._start_one()
        except RuntimeError as error:
            raise ModelUnavailable(f"{self._name}: there are no threads for it to run in ({error}); {REMEDY}") from None

    def submit(self, function: Callable[..., None], *args: Any) -> None:
        """Have it run, soon. Raises RuntimeError where there is no thread at all; then it never is."""
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
    """What a request is answered with that no thread can be had for."""
    return Overloaded(f"there is no thread for the model to run in ({error}); try again later, or {REMEDY}")


def _work(shared: _Shared) -> None:
    while (run := shared.waiting.get()) is not None:
        function, args = run
        try:
            function(*args)
        except Exception as error:  # the loop that is to hear of it has been closed
            log.debug("a run could not be handed back: %s", error)
        with shared.lock:
            shared.unfinished -= 1
        del run, function, args  # else what it was about would live until the next one


def _end(shared: _Shared, max_threads: int) -> None:
    for _ in range(max_threads):
        shared.waiting.put(None)
