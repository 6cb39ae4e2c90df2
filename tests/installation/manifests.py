"""The Kubernetes manifests as kustomize renders them, for the features used here: resources, merges, files."""

from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).parents[2] / "config"
KUBERNETES = CONFIG / "kubernetes"


def rendered(name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of one kustomization, by kind and name."""
    folder = KUBERNETES / name
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    objects: dict[tuple[str, str], dict[str, Any]] = {}
    for resource in kustomization["resources"]:
        found = rendered(f"{name}/{resource}") if (folder / resource).is_dir() else _objects(folder / resource)
        assert not objects.keys() & found.keys()
        objects |= found
    for patch in kustomization.get("patches", ()):
        for key, changes in _objects(folder / patch["path"]).items():
            objects[key] = _merged(objects[key], changes)
    for wanted in kustomization.get("configMapGenerator", ()):
        key = "ConfigMap", wanted["name"]
        data = {file: (folder / file).read_text() for file in wanted["files"]}
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": wanted["name"]}, "data": data}
        objects[key] = _merged(objects[key], made) if wanted.get("behavior") == "merge" else made
    return objects


def _objects(file: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(found["kind"], found["metadata"]["name"]): found for found in yaml.safe_load_all(file.read_text())}


def _merged(old: Any, new: Any) -> Any:
    """A strategic merge: lists of objects by their names; a key with null is removed."""
    if isinstance(old, dict) and isinstance(new, dict):
        merged = old | {key: _merged(old[key], value) if key in old else value for key, value in new.items()}
        return {key: value for key, value in merged.items() if new.get(key, value) is not None}
    if isinstance(old, list) and isinstance(new, list):
        by_name = {item["name"]: item for item in old}
        for item in new:
            by_name[item["name"]] = _merged(by_name.get(item["name"], {}), item)
        return list(by_name.values())
    return new
