"""A next version, trained on a data set that `gateway export` has written too: real traffic, labelled by feedback."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from training import Data, Wanted, write_version

COLUMNS = ["truth_class", "label_conflict"]
REVISION_VARIABLE = "TRAINING_REVISION"
MANIFESTS = ("_manifest.json", "manifest.json")  # the second: of earlier releases
DATASET = "dataset.json"  # beside the model: the manifest of the export, so that `gateway trace` can show it


@dataclass(frozen=True, slots=True)
class Exported:
    """The rows that are worth training on, and how many were left out for each reason. `provenance` names the data set:
    by its content, which is the same whatever library has written the files, and by its query.
    """

    rows: list[Any]
    labels: list[Any]
    provenance: dict[str, Any]
    left_out: Counter[str] = field(default_factory=Counter)


def read_export(folder: Path, model: str, input_name: str, data: Data) -> Exported:
    """The labelled one-row requests of an export, each different input once.

    Left out are held-out rows, which no version may train on, those that `data` has already, and inputs whose labels
    contradict each other. Ends the script where the folder is no intact Parquet export of the model.
    """
    manifest = read_manifest(folder, model, ("parquet",))
    classes = sorted({*np.asarray(data.train_y).tolist(), *np.asarray(data.test_y).tolist()})
    held_out, known = set(map(_key, data.test_x)), set(map(_key, data.train_x))
    left_out: Counter[str] = Counter()
    chosen: dict[bytes, tuple[Any, set[int]]] = {}
    for row, truth_class, conflict in _labelled(folder, manifest, input_name, left_out):
        key = _key(row)
        if not 0 <= truth_class < len(classes):
            left_out["no class of the model"] += 1
        elif key in held_out:
            left_out["held out"] += 1
        elif key in known:
            left_out["known already"] += 1
        else:
            seen = chosen.setdefault(key, (row, set()))[1]
            left_out["repeated"] += len(seen) > 0
            seen.update([truth_class] if not conflict else [truth_class, -1])
    agreed = [(row, classes[min(seen)]) for row, seen in chosen.values() if len(seen) == 1]
    left_out["contradicting labels"] = len(chosen) - len(agreed)
    provenance = {"dataset_content_sha256": manifest.get("content_sha256"), "dataset_query": manifest["query"]}
    return Exported([row for row, _ in agreed], [label for _, label in agreed], provenance, +left_out)


def training_code(folder: Path) -> list[Path]:
    """The files in `folder` whose code this process has loaded."""
    files = {Path(file).resolve() for module in list(sys.modules.values()) if (file := getattr(module, "__file__", ""))}
    return sorted(file for file in files if file.is_relative_to(folder.resolve()))


def revision(code: Iterable[Path], folder: Path) -> str | None:
    """The commit that is checked out in `folder`, with "-dirty" if one of the files `code` is not as it is there; other
    files, such as data and a pipeline's, do not matter. Outside a repository, as in an image, what $TRAINING_REVISION
    says; None if that says nothing.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--ignored", "--untracked-files=all", "--", *map(str, code))
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get(REVISION_VARIABLE) or None
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *words: str) -> str:
    ended = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return ended.stdout.strip()


def write_next_version(
    wanted: Wanted, estimator: Any, description: str, data: Data, inputs: Sequence[tuple[str, Any]], flat: bool = False
) -> None:
    """Train `estimator` on the script's own rows and an export's, and write it as a version that is new.

    `flat`: it is trained on [n] values instead of [n, 1]. Held-out rows are those of the script, and never trained on.
    """
    assert wanted.dataset is not None
    version = (
        wanted.version or max((int(path.name) for path in wanted.out.glob("[1-9]*") if path.is_dir()), default=0) + 1
    )
    if (wanted.out / str(version)).exists():
        raise SystemExit(f"{wanted.out / str(version)} exists, and a version never changes; leave --version out")
    data = data.first(wanted.own_rows)
    more = read_export(wanted.dataset, wanted.model, inputs[0][0], data)
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in more.left_out.most_common()) or "nothing"
    print(f"{len(more.rows):,} rows of {wanted.dataset} beside {len(data.train_x):,} of its own; left out: {left_out}")
    if not more.rows:
        raise SystemExit("there is nothing new to train on")
    rows = np.concatenate([data.train_x, np.stack(more.rows).astype(data.train_x.dtype)])
    grown = replace(data, train_x=rows, train_y=np.concatenate([data.train_y, more.labels]))
    estimator.fit(grown.train_x.ravel() if flat else grown.train_x, grown.train_y)
    here = Path(__file__).parent
    provenance = more.provenance | {
        "dataset_rows": len(more.rows),
        "revision": revision(training_code(here), here),
    }
    write_version(wanted.out, version, estimator, f"{description}, more rows", grown, inputs, provenance)
    shutil.copyfile(manifest_file(wanted.dataset, wanted.model), wanted.out / str(version) / DATASET)


def manifest_file(folder: Path, model: str) -> Path:
    """The manifest of the export in the folder; ends the script if there is none."""
    files = [file for name in MANIFESTS if (file := folder / name).exists()]
    if not files:
        raise SystemExit(f"{folder} holds no {MANIFESTS[0]}: write it with `gateway export {model} --out {folder}`")
    return files[0]


def read_manifest(folder: Path, model: str, formats: Sequence[str]) -> Any:
    """The manifest of an export of the model in one of the formats; ends the script if it is not intact."""
    manifest = json.loads(manifest_file(folder, model).read_text())
    if manifest["model"] != model or manifest["format"] not in formats:
        raise SystemExit(
            f"{folder} is a {manifest['format']} export of {manifest['model']}; this needs"
            f" {' or '.join(formats)} of {model}"
        )
    if manifest.get("flat"):
        raise SystemExit(f"{folder} is a flat export, which has no tensors; export it again without --flat")
    for part in manifest["files"]:
        with (folder / part["path"]).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != part["sha256"]:
                raise SystemExit(f"{folder / part['path']} is not as its manifest says: export it again")
    return manifest


def _labelled(folder: Path, manifest: Any, input_name: str, left_out: Counter[str]) -> Iterator[tuple[Any, int, bool]]:
    import pyarrow.parquet as parquet

    column = f"input_{input_name}"
    if column not in manifest["columns"]:
        raise SystemExit(f"{folder} has no column {column}: the gateway records inputs with `records.inputs: full`")
    for part in manifest["files"]:
        table = parquet.read_table(
            folder / part["path"], columns=[column, f"{column}_shape", *COLUMNS], partitioning=None
        )
        for batch in table.to_batches():
            for record in batch.to_pylist():
                values, shape = record[column], record[f"{column}_shape"]
                if record["truth_class"] is None:
                    left_out["not labelled"] += 1
                elif values is None or shape[0] != 1:
                    left_out["not one row"] += 1
                else:
                    truth_class = record["truth_class"]
                    if isinstance(truth_class, list):  # once feedback on any prediction named its row
                        (truth_class,) = truth_class
                    yield _row(values, shape), truth_class, record["label_conflict"]


def _row(values: list[Any], shape: list[int]) -> Any:
    kind = object if isinstance(values[0], str) else np.float32
    return np.array(values, kind).reshape(shape)[0]


def _key(row: Any) -> bytes:
    """The same for equal rows, however precise the type that holds them."""
    return "\n".join(map(str, row)).encode() if row.dtype == object else row.astype(np.float32).tobytes()
