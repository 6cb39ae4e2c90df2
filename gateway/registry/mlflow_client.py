"""The calls of MLflow's model registry that the gateway needs, over its REST API.

https://mlflow.org/docs/latest/rest-api.html; the files of a version come from the route that its own pages use,
`/model-versions/get-artifact`, whose names are listed by one of three calls, depending on where they are.
"""

import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gateway.errors import RegistryError, RegistryNotFound
from gateway.registry.mlflow_http import Download, MlflowHttp
from gateway.settings.units import LARGEST_VERSION

API: Final = "/api/2.0/mlflow"
MAX_FILES: Final = 1000
MAX_LISTINGS: Final = 100  # calls for the names of one version's files: folders, and pages of long ones
MAX_DEPTH: Final = 4  # of folders in a version
MAX_NAME_BYTES: Final = 200
MAX_TEXT: Final = 500  # characters of a URI or the number of a run: both are shown and recorded
_LOGGED: Final = re.compile(r"models:/(m-[0-9A-Za-z]+)")
_RUN: Final = "runs:/"
_PROXIED: Final = "mlflow-artifacts:"
_IGNORED: Final = frozenset(("__pycache__",))
_SIGNED_IN: Final = re.compile(r"^([^:/?#]+://)[^/?#]*@")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version in the registry. `source`: where its files are, by a URI without name, password and query; `run_id`: of
    the run that logged it, or empty.
    """

    model: str
    version: int
    source: str
    run_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RegistryFile:
    """A file of a version. `path`: in the version's folder; `size`: in bytes, None if the listing does not say."""

    path: str
    size: int | None


class _Place(NamedTuple):
    """How the files of a version are listed: the call, its parameters, the name of the one for the folder, and the
    folder in which the version lies.
    """

    call: str
    params: Mapping[str, str]
    folder: str
    base: str


class MlflowClient:
    """All methods raise RegistryError: RegistryNotFound if there is no such thing, RegistryUnavailable if it may work
    later.
    """

    def __init__(self, http: MlflowHttp) -> None:
        self.http = http

    async def aliases(self, model: str) -> dict[str, int]:
        """The versions by alias, such as `champion`."""
        found = await self.http.call("GET", f"{API}/registered-models/get", {"name": model})
        registered = _mapping(found, "registered_model")
        listed = registered.get("aliases", [])
        if registered.get("name") != model or not isinstance(listed, list):
            raise self._strange("registered-models/get")
        aliases = {}
        for one in listed:
            name = one.get("alias") if isinstance(one, dict) else None
            if not isinstance(name, str):
                raise self._strange("registered-models/get")
            aliases[name] = self._number(one.get("version"))
        return aliases

    async def version(self, model: str, version: int) -> ModelVersion:
        """The version by its number."""
        found = await self.http.call("GET", f"{API}/model-versions/get", {"name": model, "version": str(version)})
        said = _mapping(found, "model_version")
        tags = said.get("tags", [])
        if (said.get("name"), said.get("version")) != (model, str(version)) or not isinstance(tags, list):
            raise self._strange("model-versions/get")
        return ModelVersion(
            model=model,
            version=version,
            source=_uri(said, "source"),
            run_id=_word(said, "run_id"),
            tags={_text(tag, "key"): _text(tag, "value") for tag in tags if isinstance(tag, dict)},
        )

    async def files(self, version: ModelVersion) -> list[RegistryFile]:
        """All files of the version, by path; hidden ones and caches of Python are left out."""
        place = await self._place(version)
        files: list[RegistryFile] = []
        folders, calls = [""], 0
        while folders:
            folder, page = folders.pop(), ""
            while True:
                if (calls := calls + 1) > MAX_LISTINGS:
                    raise RegistryError(f"the listing of {_called(version)} takes more than {MAX_LISTINGS} calls")
                params = {**place.params, **({"page_token": page} if page else {})}
                if under := "/".join(part for part in (place.base, folder) if part):
                    params[place.folder] = under
                found = await self.http.call("GET", place.call, params)
                self._add(version, folder, found, files, folders)
                if not (page := _text(found, "next_page_token")):
                    break
        return sorted(files, key=lambda file: file.path)

    def download(self, version: ModelVersion, path: str) -> AbstractAsyncContextManager[Download]:
        """The content of one of its files."""
        if version.source.startswith(_RUN):  # MLflow does not resolve these itself
            run_id, base = _run_of(version.source)
            return self.http.download("/get-artifact", {"run_uuid": run_id, "path": f"{base}/{path}".lstrip("/")})
        named = {"name": version.model, "version": str(version.version), "path": path}
        return self.http.download("/model-versions/get-artifact", named)

    async def set_alias(self, model: str, alias: str, version: int) -> None:
        """Let the alias name this version."""
        body = {"name": model, "alias": alias, "version": str(version)}
        await self.http.call("POST", f"{API}/registered-models/alias", body=body)

    async def delete_alias(self, model: str, alias: str) -> None:
        """Take the alias away; it need not be there."""
        await self._deleted(f"{API}/registered-models/alias", {"name": model, "alias": alias})

    async def set_tag(self, model: str, version: int, key: str, value: str) -> None:
        """Set a tag of the version."""
        body = {"name": model, "version": str(version), "key": key, "value": value}
        await self.http.call("POST", f"{API}/model-versions/set-tag", body=body)

    async def delete_tag(self, model: str, version: int, key: str) -> None:
        """Remove a tag of the version; it need not be there."""
        await self._deleted(f"{API}/model-versions/delete-tag", {"name": model, "version": str(version), "key": key})

    async def close(self) -> None:
        """Close all connections."""
        await self.http.close()

    async def _deleted(self, path: str, body: Mapping[str, str]) -> None:
        try:
            await self.http.call("DELETE", path, body=body)
        except RegistryNotFound:
            return

    async def _place(self, version: ModelVersion) -> _Place:
        """Where its files are listed."""
        source = version.source
        if logged := _LOGGED.fullmatch(source):
            return _Place(f"{API}/logged-models/{logged[1]}/artifacts/directories", {}, "artifact_directory_path", "")
        if source.startswith(_RUN):
            run_id, base = _run_of(source)
            return _Place(f"{API}/artifacts/list", {"run_id": run_id}, "path", base)
        named = {"name": version.model, "version": str(version.version)}
        found = await self.http.call("GET", f"{API}/model-versions/get-download-uri", named)
        uri = _uri(found, "artifact_uri") or source
        if uri.startswith(_PROXIED):  # with or without a host: mlflow-artifacts://HOST/PATH
            rest = uri.removeprefix(_PROXIED)
            base = rest[2:].partition("/")[2] if rest.startswith("//") else rest
            return _Place("/api/2.0/mlflow-artifacts/artifacts", {}, "path", base.strip("/"))
        if version.run_id:
            root = await self._run_root(version.run_id)
            if root and f"{uri}/".startswith(f"{root}/"):
                return _Place(f"{API}/artifacts/list", {"run_id": version.run_id}, "path", uri[len(root) + 1 :])
        raise RegistryError(
            f"MLflow cannot list the files of {_called(version)} at {uri}; register the model where it is logged:"
            " mlflow.onnx.log_model(…, registered_model_name=…)"
        )

    async def _run_root(self, run_id: str) -> str:
        run = _mapping(await self.http.call("GET", f"{API}/runs/get", {"run_id": run_id}), "run")
        return _uri(_mapping(run, "info"), "artifact_uri").rstrip("/")

    def _add(
        self,
        version: ModelVersion,
        folder: str,
        found: Mapping[str, Any],
        files: list[RegistryFile],
        folders: list[str],
    ) -> None:
        """What one listing names. Only the last part of a path is read: the calls differ in what it is relative to."""
        listed = found.get("files", [])
        if not isinstance(listed, list):
            raise self._strange("the listing")
        if len(listed) > MAX_FILES + MAX_LISTINGS:
            raise RegistryError(f"{_called(version)} has a folder of {len(listed)} files; a version needs its model")
        for entry in listed:
            name = _text(entry, "path").rstrip("/").rpartition("/")[2] if isinstance(entry, dict) else ""
            if (name.startswith(".") and name not in (".", "..")) or name in _IGNORED:
                continue
            if name in ("", ".", "..") or not name.isprintable() or "\\" in name or len(name.encode()) > MAX_NAME_BYTES:
                raise RegistryError(f"{_called(version)} has a file whose name cannot be one: {name!r:.300}")
            path = f"{folder}/{name}" if folder else name
            if entry.get("is_dir") is not True:
                files.append(RegistryFile(path, _size(entry.get("file_size"))))
            elif path.count("/") >= MAX_DEPTH:
                raise RegistryError(f"{_called(version)} has folders that are more than {MAX_DEPTH} deep: {path:.300}")
            else:
                folders.append(path)
        if len(files) > MAX_FILES or len(folders) > MAX_LISTINGS:
            raise RegistryError(f"{_called(version)} has more than {MAX_FILES} files; a version needs its model")
        if len({file.path for file in files}) < len(files):
            raise RegistryError(f"the listing of {_called(version)} names a file twice")

    def _number(self, version: object) -> int:
        if isinstance(version, str) and version.isascii() and version.isdigit() and len(version) <= 10:
            number = int(version)
            if 0 < number <= LARGEST_VERSION:
                return number
        raise RegistryError(f"{self.http.url} names a version {version!r:.40}, which is no number that one can have")

    def _strange(self, call: str) -> RegistryError:
        return RegistryError(f"{self.http.url} answers {call} with something else than what was asked for")


def _called(version: ModelVersion) -> str:
    return f"version {version.version} of '{version.model}'"


def _run_of(source: str) -> tuple[str, str]:
    """The run and the folder in it."""
    run_id, _, folder = source.removeprefix(_RUN).partition("/")
    return run_id, folder.strip("/")


def _mapping(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key)
    return value if isinstance(value, dict) else {}


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _word(found: Mapping[str, Any], key: str) -> str:
    """A text that is shown and recorded. Raises RegistryError."""
    text = _text(found, key)
    if len(text) > MAX_TEXT or not text.isprintable():
        raise RegistryError(f"{key} in the registry must be printable, of at most {MAX_TEXT} characters: {text!r:.100}")
    return text


def _uri(found: Mapping[str, Any], key: str) -> str:
    """A URI without what may be secret. Raises RegistryError, which does not quote it."""
    text = _text(found, key)
    if len(text) > MAX_TEXT or not text.isprintable():
        raise RegistryError(f"{key} in the registry must be a printable URI of at most {MAX_TEXT} characters")
    return _SIGNED_IN.sub(r"\1", re.split("[?#]", text)[0] if "://" in text else text)


def _size(value: object) -> int | None:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None
