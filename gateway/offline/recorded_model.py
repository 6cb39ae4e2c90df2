"""What export, analysis and replay read of one model: its records, and its folder in the repository."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from gateway.backends.not_served import MODEL_NAME
from gateway.backends.repository import Repository
from gateway.errors import GatewayError, NotFound
from gateway.offline.analysis.features import FeatureNames
from gateway.offline.examples import THRESHOLD, Predicting
from gateway.offline.reader import Records, records_in
from gateway.protocol.tensors import TensorSpec
from gateway.settings.model import Kind, ModelSettings

UNKNOWN_RAW: Final = TensorSpec("raw", "BYTES", (-1,))  # for raw bodies of models that are not on disk any more


class RecordedModel:
    """A snapshot of one model's records in these folders, one of each host, and the settings in its folder in the
    repository `models`. Raises GatewayError if a folder holds no predictions, and NotFound if no model can be so named.
    """

    def __init__(self, folders: Sequence[Path], models: Path, model: str) -> None:
        if not MODEL_NAME.fullmatch(model):  # it is to be a folder's name
            raise NotFound(f"{model!r:.80} is no model's name; names are letters, digits, '_', '-' and '.'")
        self.model = model
        for folder in folders:
            if not records_in(folder).predictions:
                raise GatewayError(f"there are no predictions in {folder}; a running gateway records them there")
        self.records: Records = records_in(*folders)
        self.repository = Repository(models)
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
        from gateway.backends.onnx import OnnxSession  # loads ONNX Runtime, which few records need

        for number in (version, *reversed(self.repository.versions(self.model))):
            try:
                file = self.repository.model_file(self.model, number)
                return OnnxSession(file, 1, self.settings.providers).signature.inputs[0]
            except GatewayError:
                continue
        return UNKNOWN_RAW
