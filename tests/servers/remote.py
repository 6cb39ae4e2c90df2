"""Versions that another server runs, in a gateway's repository."""

from pathlib import Path
from typing import Any

import yaml


def place_remote(repository: Path, name: str, number: int, url: str, **settings: Any) -> None:
    """Have the server at `url` run a version; `settings`: more of remote.yaml."""
    folder = repository / name / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "remote.yaml").write_text(yaml.safe_dump({"url": url, **settings}))
