"""model.yaml: what a model's files do not say themselves. Optional, as is every key."""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.settings.base import Settings
from gateway.settings.providers import CPU, Providers
from gateway.settings.units import Bytes, Count, Number, Seconds, Text


class PredictionSettings(Settings):
    """Which output holds the class scores, and the classes in its order."""

    output: Text
    """The output that holds a score for each class, the class, or the probability of the second label of two."""
    labels: tuple[Text, ...] = ()
    """The classes' names, one for each score; of a single probability the second of two is predicted from 0.5 on."""


class BatchingSettings(Settings):
    """How requests that arrive together are run as one."""

    max_size: Count = 32
    """Rows in a batch at most; fewer where the warm-up finds that more are served no faster."""
    max_delay: Seconds = 0.0
    """How long a request waits for company; 0: it takes only what is there."""


def parse_off(value: Any) -> Any:
    """False out of `off`, which YAML 1.2 reads as text."""
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
    """What feedback may say in numbers; what is outside is refused: one odd number could outweigh all others."""

    reward: Range = (-1e6, 1e6)
    """The lowest and the highest reward, such as `[0, 1]`. Write it where a guard looks at `reward_mean`."""
    metrics: dict[Text, Range] = Field(default_factory=dict)
    """The same for business metrics, by name; of those not named here from -1e9 to 1e9."""


class ModelSettings(Settings):
    """The whole file."""

    modality: Text | None = None
    """What requests are, where they do not say: `image`, `tabular`, `text`, `audio` …"""
    prediction: PredictionSettings | None = None
    """Where the predicted class stands, for accuracy, drift and the data set."""
    feedback: FeedbackSettings = FeedbackSettings()
    """What rewards and business metrics may be."""
    batching: BatchingSettings | Off = BatchingSettings()
    """How requests that arrive together are run as one; `off`: each by itself."""
    threads: Count = 1
    """ONNX Runtime's threads for one run, in each process that runs the version."""
    concurrency: Count | None = None
    """Runs of one version at once, in each process that runs it; by default 1 on the CPU alone, else 2."""
    isolation: Literal["process", "thread"] | None = None
    """Where a version runs: in one process of its own for all workers, or in each worker's threads; null: a candidate,
    and whatever runs on a GPU, in a process, a stable version in the workers."""
    memory: Bytes | None = None
    """The most memory that the process of a version may take, such as `2GiB`; one that takes more is ended."""
    providers: Annotated[Providers, Field(json_schema_extra={"default": [CPU.name]})] = (CPU,)
    """Execution providers, best first, with options as `{NAME: {option: value}}`; without the CPU's, all must load."""
