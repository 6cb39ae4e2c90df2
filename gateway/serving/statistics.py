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
    """Counters of one version in this process. `inferences` counts rows; `queue` requests that waited for a batch."""

    inferences: int = 0
    last_success_ns: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)

    def count_success(self, started_ns: int, ended_ns: int) -> None:
        """One request answered with a prediction; both times on the monotonic clock."""
        self.last_success_ns = ended_ns
        self.success.add(ended_ns - started_ns)

    def count_batch(self, rows: int, batch_size: int, ns: int) -> None:
        """One run of the model on `rows` rows, listed under `batch_size` (bounded, as clients choose the rows)."""
        self.inferences += rows
        batch = self.batches.get(batch_size)
        if batch is None:
            batch = self.batches[batch_size] = Duration()
        batch.add(ns)

    @property
    def compute(self) -> Duration:
        """All runs of the model."""
        return Duration(
            sum(batch.count for batch in self.batches.values()), sum(batch.ns for batch in self.batches.values())
        )

    @property
    def last_inference_ms(self) -> int:
        """When the last request was answered, in milliseconds since 1970; 0 before the first."""
        if not self.last_success_ns:
            return 0
        return (time.time_ns() - time.monotonic_ns() + self.last_success_ns) // 1_000_000
