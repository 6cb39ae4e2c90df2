"""What the training scripts share: export to ONNX, evaluation of the exported file, and the training manifest.

Each script trains two versions with fixed seeds, so a re-run writes the same predictions again.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from skl2onnx import to_onnx

OPSET = {"": 17, "ai.onnx.ml": 3}
SEED = 20261123
EXACT = 1e-8  # tolerance of a convex fit: so close to the one optimum that every processor finds the same


@dataclass(frozen=True, slots=True)
class Data:
    """A data set, split in two. `sha256` is that of all its rows and labels."""

    name: str
    train_x: Any
    train_y: Any
    test_x: Any
    test_y: Any
    sha256: str

    def first(self, count: int | None) -> "Data":
        """With only the first `count` of its training rows; None: all."""
        return replace(self, train_x=self.train_x[:count], train_y=self.train_y[:count])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to train. `dataset` None: the two versions of the script; else `version` (None: the next) from it.

    `own_rows`: how many of the script's own training rows go with the dataset's; None: all.
    """

    model: str
    out: Path
    dataset: Path | None
    version: int | None
    own_rows: int | None


def hash_of(*arrays: Any) -> str:
    """The SHA-256 of the arrays' contents; strings as UTF-8, one a line."""
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        text = array.dtype.kind in "OU"
        digest.update("\n".join(map(str, array.ravel())).encode() if text else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def arguments(default: Path) -> Wanted:
    """What the command line asks for; by default both versions, beside the script."""
    parser = argparse.ArgumentParser(
        description="Train both versions and write them as ONNX; or, with --dataset, a new version on more rows."
    )
    parser.add_argument(
        "--out", type=Path, default=default, help="folder for VERSION/model.onnx (default: beside this script)"
    )
    parser.add_argument("--dataset", type=Path, help="a folder that `gateway export` has written: adds its rows")
    parser.add_argument("--version", type=int, help="the new version's number (default: the next one)")
    parser.add_argument("--own-rows", type=int, help="how many of the script's own training rows to add them to (all)")
    given = parser.parse_args()
    if given.dataset is None and (given.version, given.own_rows) != (None, None):
        parser.error("--version and --own-rows go with --dataset")
    return Wanted(default.resolve().name, given.out, given.dataset, given.version, given.own_rows)


def write_version(
    folder: Path,
    version: int,
    estimator: Any,
    description: str,
    data: Data,
    inputs: Sequence[tuple[str, Any]],
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write `estimator` to folder/VERSION with its manifest, and print how it does on the held-out rows.

    `data`: its training rows are those that the estimator has learned from. `provenance`: what the manifest says
    besides.
    """
    options = {id(estimator): {"zipmap": False, "output_class_labels": False}}
    model = to_onnx(estimator, initial_types=list(inputs), target_opset=OPSET, options=options, name="model")
    model.producer_version = model.doc_string = ""
    _use_the_plain_locale(model)
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)  # else in the order of a set
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    file = folder / str(version) / "model.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(model.SerializeToString(deterministic=True))
    accuracy = float(np.mean(predicted(file, data.test_x) == data.test_y))
    manifest = {
        "data": data.name,
        "data_sha256": data.sha256,
        "train_rows": len(data.train_x),
        "held_out_rows": len(data.test_x),
        "held_out_accuracy": round(accuracy, 4),
        "estimator": description,
        "seed": SEED,
        **(provenance or {}),
    }
    (file.parent / "training.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"{folder.name} {version}: {description}: {accuracy:.4f} on {len(data.test_x)} held-out rows")


def _use_the_plain_locale(model: Any) -> None:
    """Lower-casing asks for the locale en_US.UTF-8, which slim containers lack; every system has the locale C."""
    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            for attribute in [attribute for attribute in node.attribute if attribute.name == "locale"]:
                node.attribute.remove(attribute)
            node.attribute.append(onnx.helper.make_attribute("locale", "C"))


def predicted(file: Path, rows: Any) -> Any:
    """The labels that the exported model gives to `rows`."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(["label"], {session.get_inputs()[0].name: rows})[0]
