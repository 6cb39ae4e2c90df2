"""A next version by AutoML: learner and hyperparameters that FLAML finds for the labelled rows of any export.

    python models/automl.py tumor --dataset dataset

writes models/tumor/3 with the inputs and outputs of the versions before it. It needs the extra `automl`.
"""

import argparse
import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy is loaded: sums differ in the last bit with the number of threads
os.environ["FLAML_NO_MLFLOW"] = "1"
warnings.filterwarnings("ignore")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

try:
    import flaml
    import numpy as np
    import yaml
    from automl_check import FIGURES, Trained, check_same, figures_of
    from automl_features import encode, fit_encoders
    from automl_graph import assemble
    from automl_learners import onnx_of
    from automl_rows import Labelled, Rows, Target, drop_rare_classes, read_rows
    from automl_search import CLASS_METRICS, NUMBER_METRICS, Search, Trial, Wanted, improvements
    from automl_signature import Signature, signature_of, signature_of_records
    from exported import DATASET, manifest_file, read_manifest, revision, training_code
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from training import SEED, hash_of
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is not installed: pip install -e '.[data,automl]'") from None


def main() -> None:
    given = _arguments()
    folder = given.models / given.model
    manifest = read_manifest(given.dataset, given.model, ("parquet", "jsonl"))
    target = _target(folder / "model.yaml", manifest)
    signature = _signature(given, folder, manifest, target)
    out = _new_folder(given.out or folder, folder, given.version)
    metric = _metric(given.metric, target)
    labelled = read_rows(given.dataset, manifest, signature.columns(manifest), target)
    rare = drop_rare_classes(labelled, target) if target.labels is not None else []
    _say_what_was_read(labelled, rare)
    trained, search = _train(labelled.train, target, Wanted(metric, given.max_iter, given.time_limit, given.seed))
    learner = onnx_of(trained.model, sum(encoder.width for encoder in trained.encoders))
    model = assemble(learner, trained.encoders, signature, trained.classes, target.labels)
    check_same(trained, model, signature, labelled)
    earlier = None
    if signature.version is not None:
        file = folder / str(signature.version) / "model.onnx"
        earlier = {
            "version": signature.version,
            "may_have_learned_from_these_rows": True,  # it may have been trained by any script, on anything
            **figures_of(str(file), signature, labelled.held_out, target),
        }
    best = search.best()
    document = {
        "data": f"gateway export of {given.model}",
        "data_sha256": hash_of(*labelled.train.inputs.values(), labelled.train.truths, labelled.held_out.truths),
        "train_rows": len(labelled.train),
        "held_out_rows": len(labelled.held_out),
        **figures_of(model, signature, labelled.held_out, target),
        "estimator": f"{best.learner}, chosen by FLAML {flaml.__version__}",
        "seed": given.seed,
        "dataset_content_sha256": manifest.get("content_sha256"),
        "dataset_query": manifest["query"],
        "dataset_rows": len(labelled.train) + len(labelled.held_out),
        "revision": revision(training_code(HERE), HERE),
        "hyperparameters": dict(best.config),
        "metric": metric,
        "validation_loss": best.loss,
        "trials": len(search.trials),
        "ended_by_time_limit": search.was_cut_short,
        "classes_left_out": rare,
        "rows_left_out": dict(sorted(labelled.left_out.items())),
        "earlier_version": earlier,
    }
    out.mkdir(parents=True)
    (out / "model.onnx").write_bytes(model)
    (out / "training.json").write_text(json.dumps(document, indent=2) + "\n")
    shutil.copyfile(manifest_file(given.dataset, given.model), out / DATASET)
    _say_what_was_found(search, best, document, out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train a next version on an export, with the learner that FLAML finds."
    )
    parser.add_argument("model", help="the model's name")
    parser.add_argument("--dataset", type=Path, required=True, help="a folder that `gateway export` has written")
    parser.add_argument("--models", type=Path, default=HERE, help="the model repository (default: beside this script)")
    parser.add_argument("--like", type=int, help="the version whose inputs and outputs it gets (default: the highest)")
    parser.add_argument(
        "--out", type=Path, help="folder for VERSION/model.onnx (default: the model's in the repository)"
    )
    parser.add_argument("--version", type=int, help="the new version's number (default: the next one)")
    parser.add_argument("--max-iter", type=int, default=60, help="how many trials, at least 5 (default: %(default)s)")
    parser.add_argument("--time-limit", type=float, default=600, help="seconds for the search (default: %(default)s)")
    parser.add_argument("--metric", help=f"{', '.join(CLASS_METRICS)}; of numbers: {', '.join(NUMBER_METRICS)}")
    parser.add_argument("--seed", type=int, default=SEED, help="with the same seed it finds the same")
    given = parser.parse_args()
    if given.max_iter < 5:
        parser.error("--max-iter: there are five learners, and each needs a trial")
    if not given.time_limit > 0:
        parser.error("--time-limit: give a number of seconds above 0")
    return given


def _target(file: Path, manifest: Any) -> Target:
    """What model.yaml says is predicted; where it does not, what the truths show."""
    settings = (yaml.safe_load(file.read_text()) if file.exists() else None) or {}
    predictions = settings.get("prediction") or []
    main = next(iter([predictions] if isinstance(predictions, dict) else predictions), {})
    kind, labels, output = main.get("kind"), main.get("labels"), main.get("output")
    is_json = manifest["truth_is_json"]
    truth = manifest["columns"]["truth"]
    if kind == "regression" or (kind is None and not labels and ("float64" in truth or "double" in truth)):
        return Target(None, output, is_json)
    if kind in (None, "classification") and labels:
        return Target([str(label) for label in labels], output, is_json)
    if kind in (None, "classification"):
        raise SystemExit(
            f"{file} does not name the classes; add them as `prediction.labels`, in the order of the scores"
        )
    raise SystemExit(f"{file}: the main output is of the kind {kind}, and AutoML does classification and regression")


def _signature(given: argparse.Namespace, folder: Path, manifest: Any, target: Target) -> Signature:
    if given.like is not None and not (folder / str(given.like) / "model.onnx").exists():
        raise SystemExit(f"--like {given.like}: there is no {folder / str(given.like) / 'model.onnx'}")
    like = given.like or max(_versions(folder, "model.onnx"), default=None)
    if like is None:
        return signature_of_records(manifest, target)
    return signature_of(folder / str(like) / "model.onnx", target)


def _versions(folder: Path, file: str = "") -> list[int]:
    return [int(path.name) for path in folder.glob("[1-9]*") if path.name.isdigit() and (path / file).exists()]


def _new_folder(out: Path, folder: Path, version: int | None) -> Path:
    version = version or max([*_versions(out), *_versions(folder)], default=0) + 1
    if (out / str(version)).exists():
        raise SystemExit(f"{out / str(version)} exists, and a version never changes; leave --version out")
    return out / str(version)


def _metric(name: str | None, target: Target) -> str:
    known = list(CLASS_METRICS if target.labels is not None else NUMBER_METRICS)
    if name is not None and name not in known:
        raise SystemExit(f"--metric {name}: for this model it is one of {', '.join(known)}")
    return name or known[0]


def _train(rows: Rows, target: Target, wanted: Wanted) -> tuple[Trained, Search]:
    encoders, left_out = fit_encoders(rows.inputs)
    if left_out:
        print(f"left out, because nearly every row has a text of its own: {', '.join(left_out)}")
    features = encode(encoders, rows.inputs)
    classes: list[int] = [] if target.labels is None else np.unique(rows.truths).tolist()
    truths = rows.truths if target.labels is None else np.searchsorted(classes, rows.truths)
    search = Search(wanted, features, truths, is_classes=target.labels is not None)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("trials", total=wanted.max_iter)
        best = float("inf")

        def on_trial(trial: Trial) -> None:
            nonlocal best
            best = min(best, trial.loss)
            progress.update(task, advance=1, description=f"trials, best {wanted.metric} loss {best:.4g}")

        search.run(on_trial)
    return Trained(search.refit(search.best()), encoders, classes, target), search


def _say_what_was_read(labelled: Labelled, rare: list[str]) -> None:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in labelled.left_out.most_common()) or "none"
    print(
        f"{len(labelled.train):,} rows to train on, {len(labelled.held_out):,} held out, the last ones;"
        f" left out: {left_out}"
    )
    if rare:
        print(f"too few rows to learn from, so they will never be predicted: {', '.join(rare)}")


def _say_what_was_found(search: Search, best: Trial, document: dict[str, Any], out: Path) -> None:
    shown = Table("trial", "learner", f"loss ({document['metric']})", "hyperparameters")
    for number, trial in improvements(search.trials):
        values = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.config.items()
        )
        shown.add_row(str(number), trial.learner, f"{trial.loss:.5g}", values, style="bold" if trial is best else None)
    Console().print(shown)
    if search.was_cut_short:
        print(f"the time limit ended the search after {document['trials']} trials; another run may find another model")
    print(f"{out}: {document['estimator']}: {_words(document)} on {document['held_out_rows']:,} held-out rows")
    if earlier := document["earlier_version"]:
        print(
            f"version {earlier['version']}, whose inputs and outputs it has (--like), on the same rows:"
            f" {_words(earlier)}; if it has learned from some of them, that is too much: `gateway analyze` compares the"
            " two under live traffic"
        )


def _words(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name.removeprefix('held_out_')} {figures[name]:.4f}" for name in FIGURES if name in figures)


if __name__ == "__main__":
    main()
