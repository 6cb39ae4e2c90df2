"""The interface between a version and what runs it: a batcher in this process, a process of its own, or a server."""

from typing import Protocol

from gateway.backends.batch import Answer, BatchItem
from gateway.backends.signature import Feeds


class Backend(Protocol):
    """Runs the requests of one version. All methods are called on the worker's event loop.

    `small_body`: a request whose body has at most so many bytes may `run_now` if it comes alone; -1: none may. `where`:
    the socket of the process that runs the version; empty in the worker itself and for another server.
    """

    small_body: int
    where: str

    @property
    def connected(self) -> bool:
        """Whether the backend can run requests now: always in the worker itself, else while its process is connected
        or any address of its server may be asked.
        """

    @property
    def spare(self) -> bool:
        """Whether a request would be run at once, with no other waiting for it."""

    @property
    def idle(self) -> bool:
        """Whether no request waits and none runs."""

    def must_queue(self, feeds: Feeds) -> bool:
        """Whether a request may not `run_now`, even if it comes alone."""

    def run_now(self, feeds: Feeds, deadline_ns: int) -> Answer:
        """Run one request on the event loop. Raises RequestError."""

    def submit(self, feeds: Feeds, deadline_ns: int) -> BatchItem:
        """Queue one request. Its result is its outputs, or DeadlineExceeded at `deadline_ns` (monotonic clock)."""

    def abandon(self) -> None:
        """Cancel every request that is queued or runs."""

    def close(self) -> None:
        """Release its resources. Called once it is idle."""
