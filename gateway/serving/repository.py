"""The model versions on disk, in Triton's layout: PATH/NAME/VERSION/model.onnx, beside PATH/NAME/model.yaml."""

import re
from pathlib import Path
from typing import Final

from gateway.errors import ModelUnavailable
from gateway.settings.load import load_model
from gateway.settings.model_settings import ModelSettings

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_VERSION: Final = re.compile(r"[1-9][0-9]*")


class Repository:
    """A folder of models. Every call reads the disk anew, so that new versions are seen."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise ModelUnavailable(
                f"the model repository {path} is no folder; set models.path to one with NAME/VERSION/model.onnx"
            )
        self.path = path

    def names(self) -> list[str]:
        """The models: folders with a valid name and at least one version in them."""
        names = (entry.name for entry in self.path.iterdir() if entry.is_dir() and _NAME.fullmatch(entry.name))
        return sorted(name for name in names if self.versions(name))

    def versions(self, name: str) -> list[int]:
        """The version numbers of a model, ascending; empty where there is no such model."""
        if not _NAME.fullmatch(name) or not (self.path / name).is_dir():
            return []
        entries = (entry for entry in (self.path / name).iterdir() if entry.is_dir())
        return sorted(int(entry.name) for entry in entries if _VERSION.fullmatch(entry.name))

    def model_file(self, name: str, version: int) -> Path:
        """The ONNX file of a version; raises ModelUnavailable that says what is there instead."""
        versions = self.versions(name)
        if version not in versions:
            there = f"it has {', '.join(map(str, versions))}" if versions else f"{self.path / name} holds none"
            raise ModelUnavailable(f"model '{name}' has no version {version}; {there}")
        file = self.path / name / str(version) / "model.onnx"
        if not file.is_file():
            raise ModelUnavailable(f"{file} is missing")
        return file

    def settings(self, name: str) -> ModelSettings:
        """The model's model.yaml, or the defaults; raises SettingsError."""
        file = self.path / name / "model.yaml"
        return load_model(file) if file.exists() else ModelSettings()

    def sample(self, name: str) -> Path:
        """Where a V2 request to warm the model up with may lie."""
        return self.path / name / "warmup.json"
