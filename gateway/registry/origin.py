"""origin.json beside a version's model.onnx: which registry's version it is."""

import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

import orjson

ORIGIN_FILE: Final = "origin.json"
MAX_ORIGIN_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a version comes from. `source`: the registry's URI of its files; `run_id`: of the run that logged it; both
    may be empty. `fetched_at`: in UTC, as in 2026-11-27T10:00:00Z.
    """

    registry: str
    url: str
    model: str
    version: str
    run_id: str = ""
    source: str = ""
    fetched_at: str = ""

    def document(self) -> bytes:
        """The file's content."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def same_version(self, other: "Origin | None") -> bool:
        """Whether both are the same version of the same model. Addresses may differ: hosts reach a server by several.

        A registry that was made anew has versions of the same number, but another source.
        """
        return other is not None and self._key() == other._key()

    def names(self, registry: str, model: str, version: int) -> bool:
        """Whether it is this version of the registry. A version that was proposed by hand may have another number here:
        without its number, a promotion would move an alias to some other version there.
        """
        return (self.registry, self.model, self.version) == (registry, model, str(version))

    def _key(self) -> tuple[str, ...]:
        return self.registry, self.model, self.version, self.run_id, self.source


_FIELDS: Final = frozenset(field.name for field in fields(Origin))


def read_origin(version_folder: Path) -> Origin | None:
    """The origin of a version; None if the file is missing, or is not one. Never raises."""
    try:
        with (version_folder / ORIGIN_FILE).open("rb") as file:
            document = orjson.loads(file.read(MAX_ORIGIN_BYTES + 1))
        said = {name: value for name, value in document.items() if name in _FIELDS and isinstance(value, str)}
        return Origin(**said)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def utc_text(time_s: float) -> str:
    """The time as origin.json has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_s))
