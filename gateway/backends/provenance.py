"""Where a version comes from: training.json and origin.json beside its model, and the manifest of its data set.

The files are written by others (a training script, a registry's client, whoever proposed the version), so they are
never trusted: what is too large, no JSON or of another type is left out and said in `problems`; nothing here raises.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, get_args
from urllib.parse import quote, urlsplit

import orjson

from gateway.system.printable import printable

TRAINING: Final = "training.json"
ORIGIN: Final = "origin.json"
DATASET: Final = "dataset.json"  # the manifest of the export that the version was trained on
MAX_BYTES: Final = 64 << 10  # of training.json and origin.json: control waits while one is parsed
MAX_MANIFEST_BYTES: Final = 1 << 20  # of dataset.json, which only a command reads
MAX_GIVEN_BYTES: Final = 64 << 20  # of a manifest that its user names: an export of many versions is large
MAX_TEXT: Final = 300  # characters of each text that is kept
MAX_SERVED: Final = 20  # versions of a data set's manifest that are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetQuery:
    """The query of an export; None: not asked for. The same query makes the same export while the records are kept."""

    since: str | None = None
    until: str | None = None
    feedback_until: str | None = None
    variant: str | None = None
    with_feedback: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What training.json says; None: nothing. `data`: the name of the data set, `data_sha256`: of its rows.

    `dataset_*`: the export that its rows were added to it from, by its manifest or by its content. `revision`: of the
    code. `held_out_accuracy`: from 0 to 1.
    """

    data: str | None = None
    data_sha256: str | None = None
    dataset_manifest_sha256: str | None = None
    dataset_content_sha256: str | None = None
    dataset_query: DatasetQuery | None = None
    dataset_rows: int | None = None
    train_rows: int | None = None
    held_out_rows: int | None = None
    held_out_accuracy: float | None = None
    estimator: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What origin.json says of the registry that the version was fetched from; None: nothing."""

    registry: str | None = None
    url: str | None = None
    model: str | None = None
    version: str | None = None
    run_id: str | None = None
    source: str | None = None
    fetched_at: str | None = None

    @property
    def link(self) -> str | None:
        """The registry's page of the version, or the registry; None if its address is no plain http or https."""
        if self.url is None:
            return None
        if self.registry == "mlflow" and self.model and self.version:
            page = f"/#/models/{quote(self.model, safe='')}/versions/{quote(self.version, safe='')}"
            return self.url.rstrip("/") + page
        return self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRows:
    """How many rows of a data set one version had answered."""

    version: int
    sha256: str | None
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetManifest:
    """What the manifest of an export says. `sha256`: of the manifest itself; `first`, `last`: times of its rows; None:
    not said. `served`: the versions that answered the rows.
    """

    sha256: str
    content_sha256: str | None = None
    model: str | None = None
    rows: int | None = None
    rows_with_truth: int | None = None
    query: DatasetQuery | None = None
    first: str | None = None
    last: str | None = None
    served: tuple[ServedRows, ...] = ()

    def is_of(self, training: Training) -> bool:
        """Whether it is the manifest of the export that `training` names."""
        named = (training.dataset_manifest_sha256, training.dataset_content_sha256)
        return self.sha256 == named[0] or (self.content_sha256 is not None and self.content_sha256 == named[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What is known of where a version comes from. `problems`: why a file that is there is not, or not wholly, used."""

    training: Training | None = None
    origin: Origin | None = None
    dataset: DatasetManifest | None = None
    problems: tuple[str, ...] = field(default=())

    @property
    def known(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.training or self.origin or self.problems)


def read_provenance(folder: Path, *, with_dataset: bool = False) -> Provenance:
    """Read what a version's folder says, of the data set only if asked. Blocks on the disk for at most MAX_BYTES of a
    file, MAX_MANIFEST_BYTES of the data set's manifest; never raises.
    """
    problems: list[str] = []
    training, origin = (_document(folder / name, problems) for name in (TRAINING, ORIGIN))
    dataset = _document(folder / DATASET, problems, MAX_MANIFEST_BYTES) if with_dataset else None
    return Provenance(
        training=None if training is None else _training(training[0], problems),
        origin=None if origin is None else _origin(origin[0], problems),
        dataset=None if dataset is None else _manifest(*dataset),
        problems=tuple(problems),
    )


def read_dataset_manifest(file: Path) -> DatasetManifest | str:
    """Read the manifest of an export, or say why it cannot be read."""
    problems: list[str] = []
    found = _document(file, problems, MAX_GIVEN_BYTES)
    if found is None:
        return problems[0] if problems else f"{file} does not exist"
    return _manifest(*found)


def _training(document: Mapping[str, Any], problems: list[str]) -> Training:
    said = dict(document)
    said.setdefault("revision", said.get("code_revision"))  # as it was called before
    accuracy = said.get("held_out_accuracy")
    if isinstance(accuracy, int | float) and not 0 <= accuracy <= 1:
        problems.append(f"{TRAINING}: held_out_accuracy must be from 0 to 1")
        del said["held_out_accuracy"]
    query = _query(said.get("dataset_query"))
    return Training(**_typed(said, Training, TRAINING, problems), dataset_query=query)


def _origin(document: Mapping[str, Any], problems: list[str]) -> Origin:
    typed = _typed(document, Origin, ORIGIN, problems)
    if (url := typed.get("url")) is not None and not _is_plain_address(url):
        problems.append(f"{ORIGIN}: url must be http or https, without user and password")
        del typed["url"]
    return Origin(**{name: value for name, value in typed.items() if value != ""})


def _is_plain_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        plain = parts.username is None and parts.password is None and url.isascii() and not set(url) & set(" \\")
        return parts.scheme in ("http", "https") and bool(parts.hostname) and plain
    except ValueError:
        return False


def _manifest(document: Mapping[str, Any], sha256: str) -> DatasetManifest:
    typed = _typed({**document, "sha256": sha256}, DatasetManifest, DATASET, [])
    return DatasetManifest(**typed, query=_query(document.get("query")), served=_served(document.get("versions")))


def _query(said: Any) -> DatasetQuery | None:
    return DatasetQuery(**_typed(said, DatasetQuery, DATASET, [])) if type(said) is dict else None


def _served(versions: Any) -> tuple[ServedRows, ...]:
    listed = versions if type(versions) is list else []
    found = [_typed(one, ServedRows, DATASET, []) for one in listed[:MAX_SERVED] if type(one) is dict]
    return tuple(
        ServedRows(version=one["version"], rows=one["rows"], sha256=one.get("sha256"))
        for one in found
        if {"version", "rows"} <= one.keys()
    )


_WORDS: Final = {float: "a number", int: "a whole number from 0", str: "a text", bool: "true or false"}
_MAX_INTEGER: Final = 2**53  # up to this, integers are exact in all readers of JSON


def _typed(said: Mapping[str, Any], kind: type, file: str, problems: list[str]) -> dict[str, Any]:
    """The values of the fields of a dataclass that have the right type, texts made safe to show."""
    found: dict[str, Any] = {}
    for one in fields(kind):
        value = said.get(one.name)
        accepted = {*get_args(one.type), one.type} & _WORDS.keys()
        if value is None or not accepted:
            continue
        is_number = float in accepted and type(value) is int
        if (type(value) not in accepted and not is_number) or (type(value) is int and not 0 <= value <= _MAX_INTEGER):
            problems.append(f"{file}: {one.name} must be {_WORDS[accepted.pop()]}, and is left out")
        else:
            found[one.name] = _shown(value) if type(value) is str else value
    return found


def _shown(text: str) -> str:
    return printable(text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…")


def _document(file: Path, problems: list[str], most: int = MAX_BYTES) -> tuple[dict[str, Any], str] | None:
    """The JSON object in a file of at most `most` bytes, and the SHA-256 of the file; None if there is none."""
    try:
        content = _content(file, most)
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"{file.name} cannot be read: {error.strerror}")
        return None
    if content is None or len(content) > most:
        problems.append(f"{file.name} is {'no file' if content is None else f'larger than {most >> 10:,} KiB'}")
        return None
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        problems.append(f"{file.name} is not valid JSON")
        return None
    if type(document) is not dict:
        problems.append(f"{file.name} must be a JSON object")
        return None
    return document, hashlib.sha256(content).hexdigest()


def _content(file: Path, most: int) -> bytes | None:
    """At most one byte more than `most`; None if it is not a regular file: a pipe would block, a device never end.

    Raises OSError.
    """
    opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return None
        with os.fdopen(opened, "rb", closefd=False) as reader:
            return reader.read(most + 1)
    finally:
        os.close(opened)
