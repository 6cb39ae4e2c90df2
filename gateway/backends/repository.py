"""The model versions on disk, in Triton's layout: PATH/NAME/VERSION/model.onnx, beside PATH/NAME/model.yaml.

If another server runs a version, its folder holds remote.yaml instead of the model.
"""

import os
from pathlib import Path

from gateway.backends.not_served import (
    MODEL_FILE,
    MODEL_NAME,
    REMEDY,
    REMOTE_FILE,
    UnservedEntry,
    is_version,
    unserved_entries,
    unserved_reason,
)
from gateway.errors import ModelUnavailable
from gateway.settings.load import load_model
from gateway.settings.model import ModelSettings


class Repository:
    """A folder of models. Every call reads the disk again, so new versions are seen."""

    def __init__(self, path: Path) -> None:
        try:
            if not path.is_dir():
                problem = "is no folder; set models.path to one with NAME/VERSION/model.onnx"
                raise ModelUnavailable(f"the model repository {path} {problem}")
            os.scandir(path).close()
            os.stat(f"{path}/.")  # its entries can be looked at, too
        except PermissionError as error:
            raise ModelUnavailable(f"the model repository {path} cannot be read: {error.strerror}; {REMEDY}") from None
        self.path = path

    def names(self) -> list[str]:
        """The models: folders with a valid name and at least one version in them."""
        names = (entry.name for entry in self.path.iterdir() if entry.is_dir() and MODEL_NAME.fullmatch(entry.name))
        return sorted(name for name in names if self.versions(name))

    def versions(self, name: str) -> list[int]:
        """The version numbers of a model, ascending; empty if there is no such model."""
        if not MODEL_NAME.fullmatch(name) or not (self.path / name).is_dir():
            return []
        try:
            entries = [entry for entry in (self.path / name).iterdir() if entry.is_dir()]
        except PermissionError:  # other models are served; this one is in `unserved_entries`
            return []
        return sorted(int(entry.name) for entry in entries if is_version(entry.name))

    def model_file(self, name: str, version: int) -> Path:
        """The ONNX file of a version. Raises ModelUnavailable that says what is there instead."""
        folder = self._folder(name, version)
        if self.is_remote(name, version):
            raise ModelUnavailable(
                f"version {version} of '{name}' runs on another server ({folder / REMOTE_FILE}): no file here"
                " proves what ran, so it cannot be loaded or replayed"
            )
        return folder / MODEL_FILE

    def is_remote(self, name: str, version: int) -> bool:
        """Whether another server runs the version. One that cannot be read counts as run here, and is not served."""
        try:
            return (self.path / name / str(version) / REMOTE_FILE).exists()
        except PermissionError:
            return False

    def remote_file(self, name: str, version: int) -> Path:
        """The remote.yaml of a version that another server runs. Raises ModelUnavailable if it cannot be read."""
        return self._folder(name, version) / REMOTE_FILE

    def folder_of(self, name: str, version: int) -> Path:
        """Where the files of a version lie, if it is there."""
        return self.path / name / str(version)

    def _folder(self, name: str, version: int) -> Path:
        """The folder of a version that can be served. Raises ModelUnavailable that says what is there instead."""
        versions = self.versions(name)
        if version not in versions:
            there = f"it has {', '.join(map(str, versions))}" if versions else f"{self.path / name} holds none"
            others = (over for over in self.unserved_entries() if over.name == name)
            instead = "".join(f"; {over}" for over in others if over.version not in map(str, versions))
            raise ModelUnavailable(f"model '{name}' has no version {version}; {there}{instead}")
        reason = self.unserved_reason(name, version)
        if reason:
            raise ModelUnavailable(reason)
        return self.path / name / str(version)

    def unserved_reason(self, name: str, version: int) -> str:
        """What is wrong with a version's folder; empty if its model file can be read."""
        folder = self.path / name / str(version)
        reason = unserved_reason(folder)
        return f"{folder}{'/' if reason.startswith(MODEL_FILE) else ' '}{reason}" if reason else ""

    def unserved_entries(self) -> list[UnservedEntry]:
        """Entries that look like a model or a version and are not served."""
        return unserved_entries(self.path)

    def settings(self, name: str) -> ModelSettings:
        """The model's model.yaml, or the defaults; raises SettingsError."""
        file = self.path / name / "model.yaml"
        try:
            there = file.exists()
        except PermissionError:
            there = True  # `load_model` says so
        return load_model(file) if there else ModelSettings()

    def sample(self, name: str) -> Path:
        """The path of the V2 request to warm the model up with; the file need not exist."""
        return self.path / name / "warmup.json"
