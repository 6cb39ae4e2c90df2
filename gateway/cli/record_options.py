"""What `gateway export`, `analyze` and `replay` share: the options of the query, and progress bars."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress

from gateway.cli.options import progress_bar
from gateway.offline.reader import OnProgress, Query, size_of
from gateway.offline.recorded_model import RecordedModel
from gateway.records.segments import RecordSegment
from gateway.records.time_range import EXAMPLES, TimeRange, parse_time_ns
from gateway.settings.load import load_gateway

SINCE = click.option("--since", metavar="TIME", help=f"Predictions from this time on: {EXAMPLES}.")
UNTIL = click.option("--until", metavar="TIME", help="Predictions before this time.")
FEEDBACK_UNTIL = click.option(
    "--feedback-until", metavar="TIME", help="Feedback before this time; what came later is as if it had not come."
)
_UPDATE_BYTES: Final = 1024**2  # bytes: updating a progress bar for every line would take longer than reading it


def recorded_model(config: Path, model: str) -> RecordedModel:
    """The records of the gateway that the file configures, and its model. Raises GatewayError."""
    settings = load_gateway(config)
    return RecordedModel(Path(settings.state), Path(settings.models.path), model)


def query_of(
    model: str,
    since: str | None,
    until: str | None,
    feedback_until: str | None,
    *,
    variant: str | None = None,
    with_feedback: bool = False,
) -> Query:
    """Parse the times of a query; relative ones count back from now."""
    now_ns = time.time_ns()
    since_ns, until_ns, feedback_until_ns = (
        parse_time_ns(text, now_ns) if text else None for text in (since, until, feedback_until)
    )
    if max(until_ns or 0, feedback_until_ns or 0) > now_ns:
        click.echo("the period is not over: what comes until its end will change the result", err=True)
    return Query(model, TimeRange(since_ns, until_ns), variant, with_feedback, feedback_until_ns)


def shown_progress() -> Progress:
    """Return a progress bar on stderr, shown only on a terminal."""
    return progress_bar(Console(stderr=True))


def meter(progress: Progress, description: str, stream: Sequence[RecordSegment]) -> OnProgress:
    """Add a bar over the bytes of a stream; call the returned function with the bytes passed."""
    total = size_of(stream)
    task = progress.add_task(description, total=total)
    return _throttled(lambda size: progress.advance(task, size), total)


def _throttled(update: Callable[[float], None], total: int) -> OnProgress:
    pending, left = 0, total

    def advance(size: int) -> None:
        nonlocal pending, left
        pending += size
        left -= size
        if pending >= _UPDATE_BYTES or left <= 0:
            update(pending)
            pending = 0

    return advance
