"""Watches which batches of a version run."""

from typing import Protocol

from gateway.backends.batch import Batch


class BatchWatch(Protocol):
    """Is told of each run, on the event loop."""

    def began(self, batch: Batch) -> None:
        """The batch is about to run."""

    def ended(self, batch: Batch) -> None:
        """The batch has run, or will not."""


class Unwatched:
    """Does nothing."""

    def began(self, batch: Batch) -> None:
        return None

    def ended(self, batch: Batch) -> None:
        return None
