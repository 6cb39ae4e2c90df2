"""What `gateway export`, `analyze` and `replay` share: a model's records, the model on disk, and progress bars."""

import time
from collections.abc import Callable, Mapping, Sequence
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
from gateway.offline.analysis.features import FeatureNames
from gateway.offline.examples import THRESHOLD, Predicting
from gateway.offline.reader import OnProgress, Records, records_in, size_of
from gateway.offline.replay.judgement import COSINE, OF_THE_RANGE, Agreeing
from gateway.protocol.tensors import TensorSpec
from gateway.records.segments import RecordSegment
from gateway.records.time_range import EXAMPLES, TimeRange, parse_time_ns
from gateway.settings.load import load_gateway
from gateway.settings.model import Kind, ModelSettings

SINCE = click.option("--since", metavar="TIME", help=f"Predictions from this time on: {EXAMPLES}.")
UNTIL = click.option("--until", metavar="TIME", help="Predictions before this time.")
UNKNOWN_RAW: Final = TensorSpec("raw", "BYTES", (-1,))  # for raw bodies of models that are not on disk any more
_UPDATE_BYTES: Final = 1024**2  # bytes: updating a progress bar for every line would take longer than reading it


class RecordedModel:
    """A snapshot of one model's records, and the settings in its folder. Raises CommandError if there are none."""

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
    def predicting(self) -> Predicting:
        """What the model predicts, as far as its folder says."""
        said = self.settings.main_prediction
        if said is None:
            return Predicting()
        kind = None if said.kind is None else Kind(said.kind)
        return Predicting(said.output, kind, said.labels, THRESHOLD if said.threshold is None else said.threshold)

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """The ranges of rewards and business metrics that the model's folder sets, by outcome."""
        feedback = self.settings.feedback
        found = {f"metrics.{name}": bounds for name, bounds in feedback.metrics.items()}
        if "reward" in feedback.model_fields_set:
            found["reward"] = feedback.reward
        said = self.settings.main_prediction
        if said is not None and said.range is not None:
            found["loss"] = (0.0, said.range[1] - said.range[0])
            found["error"] = (said.range[0] - said.range[1], said.range[1] - said.range[0])
        return found

    @property
    def agreeing(self) -> Agreeing:
        """When a replayed answer agrees with the recorded one."""
        said = self.settings.main_prediction
        if said is None:
            return Agreeing(self.predicting)
        cosine = COSINE if said.cosine is None else said.cosine
        width = None if said.range is None else OF_THE_RANGE * (said.range[1] - said.range[0])
        return Agreeing(self.predicting, width if said.tolerance is None else said.tolerance, cosine)

    @property
    def features(self) -> FeatureNames:
        """The names of the inputs' columns."""
        given = self.settings.features
        return FeatureNames(by_input=given) if isinstance(given, dict) else FeatureNames(given)

    def raw_input(self, version: int) -> TensorSpec:
        """The input that raw bodies of a version hold; that of another version if this one is not on disk any more."""
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
    """Parse the options --since and --until."""
    now_ns = time.time_ns()
    return TimeRange(parse_time_ns(since, now_ns) if since else None, parse_time_ns(until, now_ns) if until else None)


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
