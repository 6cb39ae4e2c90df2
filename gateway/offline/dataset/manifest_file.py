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
    """Read the manifest of the export in `folder`; None if there is no export."""
    for name in MANIFESTS:
        try:
            document = orjson.loads((folder / name).read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            continue
        if type(document) is dict and document.get("kind") == KIND:
            return document
    return None
