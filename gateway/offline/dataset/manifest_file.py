"""Where an export's manifest lies, and what reads it: no library of data frames is needed for that.

Its name begins with "_", so that what reads the folder as one table (pandas, Arrow, Spark) passes over it. Releases
before named it manifest.json.
"""

from pathlib import Path
from typing import Any, Final

import orjson

MANIFEST: Final = "_manifest.json"
MANIFESTS: Final = (MANIFEST, "manifest.json")
KIND: Final = "canary-gateway export"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Read the manifest of the export in `folder`, with its `model` and its `files`; None if there is no export."""
    for name in MANIFESTS:
        try:
            document = orjson.loads((folder / name).read_bytes())
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, orjson.JSONDecodeError):
            continue
        if type(document) is dict and document.get("kind") == KIND and _lists_files(document):
            return document
    return None


def _lists_files(document: dict[str, Any]) -> bool:
    files = document.get("files")
    return (
        type(document.get("model")) is str
        and type(files) is list
        and all(type(part) is dict and {type(part.get("path")), type(part.get("sha256"))} == {str} for part in files)
    )
