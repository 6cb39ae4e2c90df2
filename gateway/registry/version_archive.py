"""A version of the registry as a tar archive, made as its files arrive, in the form in which versions are proposed.

Only the onnx flavor is taken. A pickled model is code of whoever made it, and nothing here ever unpickles.
"""

import asyncio
import tarfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

import yaml

from gateway.errors import BodyTooLarge, ModelUnavailable, RegistryError
from gateway.registry.mlflow_client import MlflowClient, ModelVersion, RegistryFile
from gateway.registry.origin import ORIGIN_FILE, Origin, utc_text
from gateway.system.printable import printable

REGISTRY: Final = "mlflow"
DESCRIPTION_FILE: Final = "MLmodel"
MODEL_FILE: Final = "model.onnx"
ONNX: Final = "onnx"
MAX_DESCRIPTION_BYTES: Final = 128 << 10  # a signature of some thousand columns, read within seconds
_PICKLED: Final = ("pickled_model", "python_model", "model_data")  # keys of a flavor that name what it would unpickle
_END: Final = bytes(2 * tarfile.BLOCKSIZE)


def origin_of(version: ModelVersion, url: str) -> Origin:
    """What origin.json says of the version. `url`: of the registry."""
    return Origin(
        registry=REGISTRY,
        url=url,
        model=version.model,
        version=str(version.version),
        run_id=version.run_id,
        source=version.source,
        fetched_at=utc_text(time.time()),
    )


async def version_archive(client: MlflowClient, version: ModelVersion, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The archive of all files of the version, with its origin.json, in pieces of at most some 64 KiB.

    Raises RegistryError, ModelUnavailable if it has no onnx flavor, BodyTooLarge beyond `max_bytes` of content.
    """
    files = [file for file in await client.files(version) if file.path != ORIGIN_FILE]
    if (known := sum(file.size or 0 for file in files)) > max_bytes:
        raise BodyTooLarge(f"{_called(version)} has {known} bytes; {max_bytes} are the limit (models.max_proposal)")
    await _check_flavor(client, version, files)
    for file in files:
        async with client.download(version, file.path) as download:
            size = _size(version, file, download.size)
            yield _header(file.path, size)
            async for chunk in download.chunks(size):
                yield chunk
            yield bytes(-size % tarfile.BLOCKSIZE)
    origin = origin_of(version, client.http.url).document()
    yield _header(ORIGIN_FILE, len(origin)) + origin + bytes(-len(origin) % tarfile.BLOCKSIZE)
    yield _END


async def _check_flavor(client: MlflowClient, version: ModelVersion, files: Sequence[RegistryFile]) -> None:
    """Raise ModelUnavailable unless the version is an ONNX model as the gateway runs it."""
    called, paths = _called(version), {file.path for file in files}
    if DESCRIPTION_FILE not in paths:
        raise ModelUnavailable(
            f"{called} has no file {DESCRIPTION_FILE}, so it is none that MLflow has logged; log it with mlflow.onnx"
        )
    async with client.download(version, DESCRIPTION_FILE) as download:
        size = _size(version, next(file for file in files if file.path == DESCRIPTION_FILE), download.size)
        if size > MAX_DESCRIPTION_BYTES:
            raise ModelUnavailable(
                f"{called}: {DESCRIPTION_FILE} has {size} bytes; {MAX_DESCRIPTION_BYTES} are the limit"
            )
        content = b"".join([chunk async for chunk in download.chunks(size)])
    flavors = await asyncio.to_thread(_flavors, content)
    if flavors is None:
        raise ModelUnavailable(f"{called}: {DESCRIPTION_FILE} is damaged: it names no flavors")
    if ONNX not in flavors:
        pickled = [key for flavor in flavors.values() if isinstance(flavor, dict) for key in _PICKLED if key in flavor]
        named = printable(", ".join(sorted(flavors))[:200]) or "none"
        why = ", and is pickled: the gateway never unpickles" if pickled else ""
        raise ModelUnavailable(
            f"{called} is of the flavor {named}{why}; only the flavor onnx is taken: log it with mlflow.onnx.log_model"
        )
    data = flavors[ONNX].get("data") if isinstance(flavors[ONNX], dict) else None
    if data != MODEL_FILE or MODEL_FILE not in paths:
        named = repr(data[:200]) if isinstance(data, str) else "not named"
        raise ModelUnavailable(f"{called}: its ONNX file is {named}; it must be {MODEL_FILE}, at the top")


def _flavors(content: bytes) -> Mapping[str, Any] | None:
    """The flavors by name; None if the text is not one that MLflow writes.

    The loader is the one that reads all as text: others merge mappings, which a text of a few lines can make endless.
    It is in Python, so it gives way to the event loop meanwhile.
    """
    try:
        document = yaml.load(content, yaml.BaseLoader)
        flavors = document["flavors"]
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return {name: one for name, one in flavors.items() if isinstance(name, str)} if isinstance(flavors, dict) else None


def _size(version: ModelVersion, file: RegistryFile, arriving: int | None) -> int:
    size = file.size if arriving is None else arriving
    if size is None or file.size not in (None, size):
        raise RegistryError(
            f"{_called(version)}: the listing says {file.size} bytes of {file.path}, and {arriving} are sent"
        )
    return size


def _header(name: str, size: int) -> bytes:
    """A tar header without times and owners."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _called(version: ModelVersion) -> str:
    return f"version {version.version} of '{version.model}'"
