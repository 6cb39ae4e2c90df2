"""Shows each worker which of its calls is the only one that runs in the process, so that a death names its cause."""

from gateway.backends.batch import Batch
from gateway.backends.process.served_call import ServedCall


class AloneWatch:
    """A `BatchWatch` (gateway.backends.batch_watch) of all batchers of the version."""

    def __init__(self) -> None:
        self._running: set[Batch] = set()
        self._marked: ServedCall | None = None

    def began(self, batch: Batch) -> None:
        self._running.add(batch)
        self._mark()

    def ended(self, batch: Batch) -> None:
        self._running.discard(batch)
        self._mark()

    def _mark(self) -> None:
        only = None
        if len(self._running) == 1:
            (batch,) = self._running
            if len(batch.items) == 1:
                only = batch.items[0]
        if only is self._marked:
            return
        if self._marked is not None:
            self._marked.mark(0)
        assert only is None or isinstance(only, ServedCall)
        self._marked = only
        if only is not None:
            only.mark(only.number)
