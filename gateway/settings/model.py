"""The settings of model.yaml: what a model's files do not say themselves. The file and all its keys are optional."""

from collections.abc import Mapping
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.settings.base import Settings
from gateway.settings.metric_names import METRICS_PREFIX
from gateway.settings.providers import CPU, Providers
from gateway.settings.units import Bytes, Count, Number, Seconds, Text

MAX_OUTCOME: Final = 1e12  # a sum of 1e290 of them is finite
MAX_DECLARED: Final = 32  # business metrics that always count, each of which takes memory for each version and route
MAX_PREDICTIONS: Final = 16  # outputs with settings of their own: a prediction id has to carry them all


class Kind(StrEnum):
    """What an output predicts, which decides what a truth of it is and how far off the prediction was."""

    CLASSIFICATION = "classification"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"
    RANKING = "ranking"
    EMBEDDING = "embedding"
    NONE = "none"


def _two(value: Any) -> Any:
    if isinstance(value, list | tuple) and len(value) != 2:
        raise ValueError(f"a range is two numbers, such as [0, 500], not {len(value)}")
    return value


def _range(value: tuple[float, float]) -> tuple[float, float]:
    lowest, highest = value
    if not -MAX_OUTCOME <= lowest < highest <= MAX_OUTCOME:  # NaN is not
        raise ValueError(f"a range is two numbers, the lower one first, from {-MAX_OUTCOME:g} to {MAX_OUTCOME:g}")
    return value


Range = Annotated[tuple[Number, Number], BeforeValidator(_two), AfterValidator(_range)]


class PredictionSettings(Settings):
    """What one output predicts, and what is needed to compare it with the truth."""

    output: Text
    """The output: scores or names of classes, flags or scores of labels, a number, scores of items, or a vector."""
    kind: Literal["classification", "multilabel", "regression", "ranking", "embedding", "none"] | None = None
    """What it predicts; null: `classification` where the output shows that it is, else `none`."""
    labels: tuple[Text, ...] = ()
    """The class names, in the order of the scores. A single probability of 0.5 or more predicts the second label."""
    threshold: Number | None = None
    """For `multilabel`: scores from here on mean that the row has the label; null: 0.5."""
    unit: Text | None = None
    """For `regression`: the unit of the number, such as `kg`."""
    range: Range | None = None
    """For `regression`: the lowest and the highest usual value; a guard on `loss` and drift need it."""
    tolerance: Annotated[Number, Field(ge=0)] | None = None
    """For `regression`: how far, in the unit, a mirrored answer may be off; null: 1% of the range, or of the value."""
    cosine: Annotated[Number, Field(ge=-1, le=1)] | None = None
    """For `embedding`: the least cosine similarity at which mirrored answers agree; null: 0.99."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> "PredictionSettings":
        for name, kinds in _KINDS_WITH.items():
            if getattr(self, name) not in (None, ()) and self.kind not in kinds:
                needs = " or ".join(f"kind: {kind}" for kind in kinds if kind)
                raise ValueError(f"{name} goes with {needs}, and the kind is {self.kind or 'not given'}")
        return self

    @property
    def loss_range(self) -> tuple[float, float] | None:
        """The least and the greatest loss of one request, to scale it with; None if that is not known.

        An error beyond the range counts as if it were as large as the range is wide.
        """
        if self.kind != "regression":
            return 0.0, 1.0
        return None if self.range is None else (0.0, self.range[1] - self.range[0])


_KINDS_WITH: Final[Mapping[str, tuple[str | None, ...]]] = {
    "labels": (None, Kind.CLASSIFICATION, Kind.MULTILABEL),
    "threshold": (Kind.MULTILABEL,),
    "unit": (Kind.REGRESSION,),
    "range": (Kind.REGRESSION,),
    "tolerance": (Kind.REGRESSION,),
    "cosine": (Kind.EMBEDDING,),
}


def parse_predictions(value: Any) -> Any:
    """Return one prediction as a list of it; null is none."""
    return [value] if isinstance(value, dict | PredictionSettings) else () if value is None else value


def _of_several_outputs(value: tuple[PredictionSettings, ...]) -> tuple[PredictionSettings, ...]:
    outputs = [prediction.output for prediction in value]
    if twice := next((name for name in outputs if outputs.count(name) > 1), None):
        raise ValueError(f"output '{twice}' is given twice; give each output once")
    if "metrics" in outputs[1:]:
        raise ValueError(
            "output 'metrics' cannot be any but the first: its outcomes would be named as business metrics"
        )
    if len(value) > MAX_PREDICTIONS:
        raise ValueError(f"{len(value)} outputs are given; at most {MAX_PREDICTIONS} can be compared with truths")
    return value


def _one_or_several(schema: dict[str, Any]) -> None:
    """Write the JSON Schema of one prediction or a list of several."""
    items = schema.pop("items")
    del schema["type"]
    schema["anyOf"] = [items, {"type": "array", "items": items}, {"type": "null"}]


def _column_names(value: Any) -> Any:
    """Refuse a name that is given twice, in the list or in that of an input."""
    for names in value.values() if isinstance(value, dict) else (value,):
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"'{twice}' is given twice; each column needs its own name")
    return value


class BatchingSettings(Settings):
    """Batching: requests that arrive together are run as one."""

    max_size: Count = 32
    """The most rows in a batch; fewer if the warm-up measures that larger batches are not faster."""
    max_delay: Seconds = 0.0
    """How long a request waits for others to join its batch; 0: the batch takes only those that are waiting already."""


def parse_off(value: Any) -> Any:
    """Return False for `off`, which YAML 1.2 reads as text."""
    return False if value == "off" else value


Off = Annotated[Literal[False], BeforeValidator(parse_off), WithJsonSchema({"enum": ["off", False]})]


class FeedbackSettings(Settings):
    """Ranges of the numbers in feedback; values outside are refused, because one outlier could dominate a mean."""

    reward: Range = (-1e6, 1e6)
    """The lowest and the highest reward, such as `[0, 1]`. Set it if a guard uses `reward_mean`."""
    metrics: dict[Text, Range] = Field(default_factory=dict)
    """The lowest and the highest value of business metrics, by name; for those not named here -1e9 and 1e9."""


class ModelSettings(Settings):
    """The whole file."""

    modality: Text | None = None
    """The modality of requests that do not name one: `image`, `tabular`, `text`, `audio` …"""
    prediction: Annotated[
        tuple[PredictionSettings, ...],
        BeforeValidator(parse_predictions),
        AfterValidator(_of_several_outputs),
        Field(json_schema_extra=_one_or_several),
    ] = ()
    """What an output predicts, for accuracy, drift and data sets; or a list for several outputs, the main one first."""
    features: Annotated[tuple[Text, ...] | dict[Text, tuple[Text, ...]], AfterValidator(_column_names)] = ()
    """The names of the input's columns, for error analysis; of several inputs: `{INPUT: [NAME, …]}`."""
    feedback: FeedbackSettings = FeedbackSettings()
    """Ranges of rewards and business metrics in feedback."""
    batching: BatchingSettings | Off = BatchingSettings()
    """Batching: requests that arrive together are run as one; `off`: each request runs alone."""
    threads: Count = 1
    """ONNX Runtime's threads for one run, in each process that runs the version."""
    concurrency: Count | None = None
    """Concurrent runs of one version, in each process that runs it; by default 1 on the CPU alone, else 2."""
    isolation: Literal["process", "thread"] | None = None
    """One process for all workers, or threads in each; null: a process for a candidate, and for what runs on a GPU."""
    memory: Bytes | None = None
    """The most that the version's own process may take, such as `2GiB`; one that takes more is killed and replaced."""
    providers: Annotated[Providers, Field(json_schema_extra={"default": [CPU.name]})] = (CPU,)
    """Execution providers, best first; options as `{NAME: {option: value}}`. Without the CPU's, all must load."""

    def runs_in_process(self, *, stable: bool) -> bool:
        """Whether a version runs in a process of its own, as stable or as the candidate."""
        if self.isolation is not None:
            return self.isolation == "process"
        return not stable or self.providers[0] != CPU

    @property
    def declared_metrics(self) -> frozenset[str]:
        """The outcomes that are business metrics named here, the first MAX_DECLARED."""
        return frozenset(f"{METRICS_PREFIX}{name}" for name in islice(self.feedback.metrics, MAX_DECLARED))

    @property
    def main_prediction(self) -> PredictionSettings | None:
        """What the first output given predicts: the one that outcomes without a prefix are about."""
        return self.prediction[0] if self.prediction else None
