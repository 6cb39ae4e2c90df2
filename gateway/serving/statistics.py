"""What a model version has done so far, in the terms of the protocol's statistics extension."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class VersionStatistics:
    """Counters of one version in this process. `inferences` counts rows, `executions` runs of the model."""

    inferences: int = 0
    executions: int = 0
    last_inference_ms: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)

    def count_success(self, ns: int) -> None:
        """One request answered with a prediction, `ns` after it was decided."""
        self.success.add(ns)
        self.last_inference_ms = int(time.time() * 1000)

    def count_queued(self, ns: int) -> None:
        """One request left the queue after `ns`."""
        self.queue.add(ns)

    def count_batch(self, rows: int, batch_size: int, ns: int) -> None:
        """One run of the model on `rows` rows, listed under `batch_size` (bounded, as clients choose the rows)."""
        self.inferences += rows
        self.executions += 1
        self.compute.add(ns)
        batch = self.batches.get(batch_size)
        if batch is None:
            batch = self.batches[batch_size] = Duration()
        batch.add(ns)
