"""Which versions are the registry's own."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.control.registry.versions import RegistryVersions
from gateway.registry.origin import Origin


@pytest.mark.parametrize(
    ("number", "origin", "own"),
    [
        (7, Origin(registry="mlflow", url="", model="digits", version="7"), True),
        (2, Origin(registry="mlflow", url="", model="digits", version="7"), False),  # proposed by hand
        (7, Origin(registry="mlflow", url="", model="letters", version="7"), False),
        (7, Origin(registry="other", url="", model="digits", version="7"), False),
        (7, None, False),
    ],
)
def test_a_version_came_from_the_registry_under_its_number(
    number: int, origin: Origin | None, own: bool, tmp_path: Path
) -> None:
    """Otherwise a promotion would give the alias to another version of the registry."""
    folder = tmp_path / "digits" / str(number)
    folder.mkdir(parents=True)
    if origin is not None:
        (folder / "origin.json").write_bytes(origin.document())
    control: Any = SimpleNamespace(repository=SimpleNamespace(path=tmp_path))
    unused: Any = None
    versions = RegistryVersions(control, unused, unused, None)
    assert asyncio.run(versions.came_from("digits", number, "digits")) is own
