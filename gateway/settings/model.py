"""The settings of model.yaml: what a model's files do not say themselves. The file and all its keys are optional."""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.settings.base import Settings
from gateway.settings.providers import CPU, Providers
from gateway.settings.units import Bytes, Count, Number, Seconds, Text


class PredictionSettings(Settings):
    """Which output holds the predicted class, and the names of the classes."""

    output: Text
    """The output that holds one score per class, the class itself, or the probability of the second of two labels."""
    labels: tuple[Text, ...] = ()
    """The class names, in the order of the scores. A single probability of 0.5 or more predicts the second label."""


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


MAX_OUTCOME: Final = 1e12  # a sum of 1e290 of them is finite


def _range(value: tuple[float, float]) -> tuple[float, float]:
    lowest, highest = value
    if not -MAX_OUTCOME <= lowest < highest <= MAX_OUTCOME:  # NaN is not
        raise ValueError(f"a range is two numbers, the lower one first, from {-MAX_OUTCOME:g} to {MAX_OUTCOME:g}")
    return value


Range = Annotated[tuple[Number, Number], AfterValidator(_range)]


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
    prediction: PredictionSettings | None = None
    """Which output holds the predicted class, for accuracy, drift and data sets."""
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
