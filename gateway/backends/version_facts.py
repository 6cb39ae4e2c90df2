"""The facts of a version that need no session: enough to check requests for it and to read its answers.

A version that runs in a process of its own is described to the workers by `dump`, as JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.backends.batching_rules import BatchingRules
from gateway.backends.classes import Classes
from gateway.backends.loop_limits import LoopLimits
from gateway.backends.prediction_kinds import predictions_of
from gateway.backends.predictions import Predictions
from gateway.backends.signature import Signature
from gateway.backends.warmup import WarmUp
from gateway.protocol.tensors import ObservedOutput, TensorSpec
from gateway.settings.model import ModelSettings

ANSWERS: Final = {"modality", "prediction", "features", "feedback"}  # of model.yaml: describes requests and answers


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """The facts of one version. `shown`: the outputs as the warm-up saw them. `providers`: those that run it;
    `warning`: which of those requested cannot be used. `sha256`: the digest of all its files. `loop_limits`: which
    requests may run on the event loop. `labels`: the class labels of each output that has some.
    """

    signature: Signature
    shown: Sequence[ObservedOutput | None]
    providers: tuple[str, ...]
    warning: str
    settings: ModelSettings
    warm_up: WarmUp
    sha256: str
    rules: BatchingRules
    loop_limits: LoopLimits
    labels: Mapping[str, tuple[str, ...]]
    predictions: Predictions

    @property
    def classes(self) -> Classes:
        """The classes of the main output, if it has some."""
        return self.predictions.classes

    def dump(self) -> dict[str, Any]:
        """All facts as JSON values, for `load`."""
        return {
            "inputs": list(map(asdict, self.signature.inputs)),
            "outputs": list(map(asdict, self.signature.outputs)),
            "initializers": list(map(asdict, self.signature.initializers.values())),
            "shown": [shown and asdict(shown) for shown in self.shown],
            "providers": self.providers,
            "warning": self.warning,
            "settings": self.settings.model_dump(mode="json", include=ANSWERS, exclude_none=True),
            "warm_up": self.warm_up.dump(),
            "sha256": self.sha256,
            "rules": asdict(self.rules),
            "reach": asdict(self.loop_limits),
        }


def load(found: Mapping[str, Any]) -> VersionFacts:
    """Read what `dump` returned. Raises ValueError, KeyError or TypeError if it has another form."""
    signature = Signature(*([_spec(spec) for spec in found[part]] for part in ("inputs", "outputs", "initializers")))
    settings = ModelSettings.model_validate(found["settings"])
    shown = [None if one is None else ObservedOutput(tuple(one["shape"]), one["value"]) for one in found["shown"]]
    labels = labels_of(settings, signature)
    return VersionFacts(
        signature=signature,
        shown=shown,
        providers=tuple(found["providers"]),
        warning=found["warning"],
        settings=settings,
        warm_up=WarmUp.load(found["warm_up"]),
        sha256=found["sha256"],
        rules=BatchingRules(**found["rules"]),
        loop_limits=LoopLimits.load(found["reach"]),
        labels=labels,
        predictions=predictions_of(settings, signature, shown, labels),
    )


def labels_of(settings: ModelSettings, signature: Signature) -> dict[str, tuple[str, ...]]:
    """The class labels of each output that has some: from model.yaml, or from the model itself."""
    labels = {spec.name: spec.labels for spec in signature.outputs if spec.labels}
    for prediction in settings.prediction:
        if prediction.labels:
            labels[prediction.output] = tuple(prediction.labels)
    return labels


def _spec(found: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(**{**found, "shape": tuple(found["shape"]), "labels": tuple(found["labels"])})
