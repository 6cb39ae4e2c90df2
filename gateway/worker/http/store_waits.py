"""Requests that wait until the fleet's store has counted them are not in flight meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import Overloaded
from gateway.shm.scoreboard import SHED
from gateway.worker.pipeline import Pipeline


class StoreWaits:
    """Those of one worker. `count`: how many wait, as many as `limits.inflight` at most: all may go on at once."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.count = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """An admitted request waits in this context for what is not this worker's to do, so that it is not in flight:
        else a slow store would have all others refused. Raises Overloaded if too many wait, or if there is no place for
        it afterwards.
        """
        pipeline = self._pipeline
        pipeline.release()
        try:
            self._begin()
            try:
                yield
            finally:
                self.count -= 1
            pipeline.admit()
        except BaseException:
            pipeline.inflight += 1  # who has admitted it releases it
            raise

    def _begin(self) -> None:
        if self.count >= self._pipeline.limits.inflight:
            self._pipeline.head[SHED] += 1
            raise Overloaded(
                f"{self.count} requests wait for the fleet's store, the most that limits.inflight allows; try again"
                " later"
            )
        self.count += 1
