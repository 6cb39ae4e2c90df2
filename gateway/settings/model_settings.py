"""model.yaml: what a model's files do not say themselves. Optional, as is every key."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PositiveInt, WithJsonSchema

from gateway.settings.base import Settings
from gateway.settings.units import Seconds


class PredictionSettings(Settings):
    """Which output holds the class scores, and the classes in its order."""

    output: str
    labels: tuple[str, ...] = ()


class BatchingSettings(Settings):
    """`max_size`: rows in a batch; `max_delay`: seconds to wait for company."""

    max_size: PositiveInt = 32
    max_delay: Seconds = 0.0


def _off(value: Any) -> Any:
    return False if value == "off" else value


Off = Annotated[Literal[False], BeforeValidator(_off), WithJsonSchema({"enum": ["off", False]})]


class ModelSettings(Settings):
    """`threads`: ONNX Runtime's threads for one run; `concurrency`: runs of one version at once."""

    modality: str | None = None
    prediction: PredictionSettings | None = None
    batching: BatchingSettings | Off = BatchingSettings()
    threads: PositiveInt = 1
    concurrency: PositiveInt = 1
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
