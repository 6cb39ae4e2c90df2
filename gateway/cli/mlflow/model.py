"""A model that MLflow stores, as the version that the gateway is sent: its ONNX file with the files of its weights."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import mlflow
import yaml
from mlflow.models import Model

from gateway.cli.mlflow.planes import invalid
from gateway.cli.refusal import CommandError
from gateway.cli.version_archive import VersionArchive
from gateway.errors import ModelUnavailable
from gateway.registry.origin import ORIGIN_FILE, Origin, utc_text
from gateway.registry.version_archive import REGISTRY
from gateway.system.tar_archive import ArchivedFile

FLAVOR: Final = "onnx"
TRAINING_FILE: Final = "training.json"
_ALIAS: Final = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
_VERSION: Final = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>[0-9]+)")


@contextmanager
def fetched_version(model_uri: str, flavor: str | None) -> Iterator[VersionArchive]:
    """Fetch the model into a temporary folder. Where it is from goes along, as origin.json, and its training.json.

    Only files are copied: nothing of the model is unpickled or run. Raises MlflowException.
    """
    if flavor not in (None, FLAVOR):
        raise invalid(f"the flavor {flavor!r} cannot be deployed to the gateway; it serves the flavor {FLAVOR!r} only")
    uri = _with_number(model_uri)
    with TemporaryDirectory(prefix="gateway-mlflow-") as folder:
        local = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=f"{folder}/model"))
        if not (local / "MLmodel").is_file():
            raise invalid(f"{model_uri} is no model of MLflow: it holds no file MLmodel")
        try:
            model = Model.load(str(local))
            flavors = dict(model.flavors)
        except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
            raise invalid(f"{model_uri}: its MLmodel is damaged: {error}") from None
        try:
            archive = VersionArchive(_onnx_file(local, flavors, model_uri))
        except (CommandError, ModelUnavailable) as error:
            raise invalid(f"{model_uri}: {error}") from None
        names = {file.name for file in archive.files}
        origin = Path(folder, ORIGIN_FILE)
        origin.write_bytes(_origin(uri, model).document())
        for path in (origin, local / TRAINING_FILE):
            if path.is_file() and path.name not in names:
                archive.files.append(ArchivedFile(path, path.name, path.stat().st_size))
        yield archive


def _with_number(model_uri: str) -> str:
    """The URI with the version's number in place of its alias, which may be moved while the model is fetched."""
    if not (named := _ALIAS.fullmatch(model_uri)):
        return model_uri
    version = mlflow.MlflowClient().get_model_version_by_alias(named["name"], named["alias"])
    return f"models:/{named['name']}/{version.version}"


def _onnx_file(local: Path, flavors: dict[str, Any], model_uri: str) -> Path:
    flavor = flavors.get(FLAVOR)
    if not isinstance(flavor, dict):
        raise invalid(
            f"{model_uri} has the flavors {', '.join(flavors)}; the gateway serves {FLAVOR} only: convert the"
            " model to ONNX, and log it with mlflow.onnx.log_model"
        )
    file = local / str(flavor.get("data"))
    if not file.resolve().is_relative_to(local.resolve()):
        raise invalid(f"{model_uri}: its MLmodel names {flavor.get('data')!r}, which leads out of the model's folder")
    return file


def _origin(uri: str, model: Any) -> Origin:
    """Where the version is from; of a registered one the same as where it is fetched without MLflow's library."""
    named = _VERSION.fullmatch(uri)
    if named is None:
        return Origin(
            registry=REGISTRY,
            url=_without_password(mlflow.get_tracking_uri()),
            model="",
            version="",
            run_id=model.run_id or "",
            source=_without_password(uri),
            fetched_at=utc_text(time.time()),
        )
    version = mlflow.MlflowClient().get_model_version(named["name"], named["version"])
    return Origin(
        registry=REGISTRY,
        url=_without_password(mlflow.get_registry_uri()),
        model=named["name"],
        version=named["version"],
        run_id=version.run_id or "",
        source=version.source,
        fetched_at=utc_text(time.time()),
    )


def _without_password(address: str) -> str:
    """The address as it may be kept: without user and password, query and fragment, which may be a signature."""
    parts = urlsplit(address)
    if not parts.netloc:
        return address
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
