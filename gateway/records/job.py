"""What control and the process that makes a data set, an analysis or a trace for it say to each other.

Control writes one line, the job, and holds its end of the pipe open for as long as it wants the result. The process
answers with one line, the head, and then the result's bytes.
"""

from dataclasses import dataclass
from typing import Literal

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsJob:
    """A data set or an analysis of one model's records, or a trace. Times are in ns since 1970; None: no bound.

    `state`, `models`: the state folder and the repository; `scratch`: a folder that does not exist yet, for this job
    alone. `format`: parquet, jsonl or csv of a data set; json, html or text of an analysis; json of a trace. A trace
    has a `prediction_id`, and `sample`, `retain_bytes` and `in_fleet`, which decide what records there are. The other
    fields are as in the query.
    """

    kind: Literal["dataset", "analysis", "trace"]
    model: str
    state: str
    models: str
    scratch: str
    format: str
    since_ns: int | None = None
    until_ns: int | None = None
    feedback_until_ns: int | None = None
    variant: str | None = None
    with_feedback: bool = False
    flat: bool = False
    prediction_id: str = ""
    sample: float = 1.0
    retain_bytes: int = 0
    in_fleet: bool = False

    @property
    def subject(self) -> str:
        """What it is made of: the id of a trace, else the model."""
        return self.prediction_id or self.model

    @property
    def remedy(self) -> str:
        """What to do if it takes too long, or needs too much memory."""
        if self.kind == "trace":
            return "try again, or run `gateway trace` where the gateway's state folder is"
        return "choose a shorter period with since and until"

    def line(self) -> bytes:
        """Encode it as a line."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True, slots=True)
class JobHead:
    """How a job has ended: an HTTP status, and the `size` of its result in bytes, or 0 and why there is none."""

    status: int
    size: int = 0
    error: str = ""

    def line(self) -> bytes:
        """Encode it as a line."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)


def parse_job(line: bytes) -> RecordsJob:
    """Decode a job. Raises ValueError or TypeError if it is none."""
    return RecordsJob(**orjson.loads(line))


def parse_head(line: bytes) -> JobHead:
    """Decode a head. Raises ValueError or TypeError if it is none."""
    return JobHead(**orjson.loads(line))
