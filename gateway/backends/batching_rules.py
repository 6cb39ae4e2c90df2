"""How a version's requests are joined into batches."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchingRules:
    """`max_rows`: of a batch; 1: requests are never joined. `max_delay_s`: how long a request waits for others.
    `concurrency`: batches that run at once.
    """

    max_rows: int = 1
    max_delay_s: float = 0.0
    concurrency: int = 1
