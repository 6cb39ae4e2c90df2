"""What `gateway export`, `analyze` and `replay` share: the records of a model, the model on disk, and progress bars."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress

from gateway.backends.onnx import OnnxSession
from gateway.backends.repository import Repository
from gateway.cli.options import progress_bar
from gateway.cli.refusal import CommandError
from gateway.errors import GatewayError
from gateway.offline.reader import Advance, Records, records_in, size_of
from gateway.protocol.tensors import TensorSpec
from gateway.records.period import EXAMPLES, TimeRange, parse_time_ns
from gateway.records.segments import RecordSegment
from gateway.settings.load import load_gateway
from gateway.settings.model import ModelSettings

SINCE = click.option("--since", metavar="TIME", help=f"Predictions from this time on: {EXAMPLES}.")
UNTIL = click.option("--until", metavar="TIME", help="Predictions before this time.")
UNKNOWN_RAW: Final = TensorSpec("raw", "BYTES", (-1,))  # the input of raw bodies whose model is gone from the disk
_UPDATE_BYTES: Final = 1024**2  # bytes: a progress bar that is told of every line takes longer than reading it


class RecordedModel:
    """The records of one model as they are now, and what its folder says. Raises Refusal where there are none."""

    def __init__(self, config: Path, model: str) -> None:
        settings = load_gateway(config)
        folder = Path(settings.state) / "records"
        self.model = model
        self.records: Records = records_in(folder)
        if not self.records.predictions:
            raise CommandError(f"there are no predictions in {folder}; a running gateway records them there")
        self.repository = Repository(Path(settings.models.path))
        there = bool(self.repository.versions(model))
        self.settings = self.repository.settings(model) if there else ModelSettings()
        self._raw: dict[int, TensorSpec] = {}

    @property
    def labels(self) -> Sequence[str]:
        """The model's classes; empty where its folder does not say."""
        return self.settings.prediction.labels if self.settings.prediction else ()

    def raw_input(self, version: int) -> TensorSpec:
        """The input of a version that a raw body is for; that of another version where this one is gone."""
        if version not in self._raw:
            self._raw[version] = self._raw_input(version)
        return self._raw[version]

    def _raw_input(self, version: int) -> TensorSpec:
        for number in (version, *reversed(self.repository.versions(self.model))):
            try:
                file = self.repository.model_file(self.model, number)
                return OnnxSession(file, 1, self.settings.providers).signature.inputs[0]
            except GatewayError:
                continue
        return UNKNOWN_RAW


def time_range_of(since: str | None, until: str | None) -> TimeRange:
    """The period that the options name."""
    now_ns = time.time_ns()
    return TimeRange(parse_time_ns(since, now_ns) if since else None, parse_time_ns(until, now_ns) if until else None)


def shown_progress() -> Progress:
    """A progress bar on stderr, where a person watches."""
    return progress_bar(Console(stderr=True))


def meter(progress: Progress, description: str, stream: Sequence[RecordSegment]) -> Advance:
    """A bar over the bytes of a stream; the function is told the bytes passed."""
    total = size_of(stream)
    task = progress.add_task(description, total=total)
    return _throttled(lambda size: progress.advance(task, size), total)


def _throttled(advance: Callable[[float], None], total: int) -> Advance:
    pending, left = 0, total

    def advance(size: int) -> None:
        nonlocal pending, left
        pending += size
        left -= size
        if pending >= _UPDATE_BYTES or left <= 0:
            advance(pending)
            pending = 0

    return advance
