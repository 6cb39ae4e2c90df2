"""Export, train, check, analyze, propose: what the component's job runs. Polyaxon gets the metrics and the analysis."""

import argparse
import csv
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from polyaxon import tracking
from traceml.tracking import Run

MODELS: Final = Path(__file__).parents[3] / "models"
METRICS: Final = ("held_out_accuracy", "held_out_rows", "train_rows", "dataset_rows")


def arguments() -> argparse.Namespace:
    """The component's inputs; component.yaml has their meanings and defaults."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "gateway", "since", "until", "feedback_until", "own_rows", "at_least", "weight"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--replace", action="store_true")
    return parser.parse_args()


def run(job: Run, step: str, *command: str | Path) -> None:
    """Run the command of a step; where it fails the job does."""
    print(f"--- {step}", flush=True)
    if subprocess.run(command, check=False).returncode:
        message = f"{step} failed; the reason is above"
        job.log_failed(reason=step, message=message)
        sys.exit(message)


def log_answers(job: Run, held_out: Path) -> None:
    """Show Polyaxon the confusion matrix of the held-out rows."""
    with held_out.open(newline="") as file:
        rows = [(row["truth"], row["answer"]) for row in csv.DictReader(file)]
    classes = sorted({name for row in rows for name in row})
    matrix = [[rows.count((truth, answer)) for answer in classes] for truth in classes]
    job.log_confusion_matrix("held_out", x=classes, y=classes, z=matrix)


def main() -> None:
    given, now = arguments(), datetime.now(UTC).isoformat(timespec="microseconds")
    job = tracking.init(track_code=False)
    out = Path(job.get_outputs_path())
    dataset, version, held_out, analysis = (
        out / name for name in ("dataset", "version/1", "held_out.csv", "analysis.html")
    )
    since = given.since
    until, feedback_until = (now if time == "now" else time for time in (given.until, given.feedback_until))
    job.log_inputs(until=until, feedback_until=feedback_until)  # so that the run says for ever what it learned from
    period = ["--since", since, "--until", until, "--feedback-until", feedback_until]
    there = ["--url", given.gateway]

    run(job, "export", "gateway", "export", given.model, *there, "--out", dataset, *period)
    job.log_data_ref("dataset", path=str(dataset))

    script = ["python", MODELS / given.model / "train.py", "--dataset", dataset, "--own-rows", given.own_rows]
    run(job, "train", *script, "--out", version.parent, "--version", version.name)
    training = json.loads((version / "training.json").read_text())
    job.log_metrics(**{name: training[name] for name in METRICS})
    job.log_model_ref(str(version), name=given.model, framework="onnx", summary=training)

    script = ["python", MODELS / "check.py", given.model, version, "--at-least", given.at_least]
    run(job, "check", *script, "--answers", held_out)
    log_answers(job, held_out)

    run(job, "analyze", "gateway", "analyze", given.model, *there, "--html", analysis, *period)
    job.log_html("analysis", analysis.read_text())

    traffic = ["--weight", given.weight, *["--replace"] * given.replace, "--reason", f"Polyaxon run {job.run_uuid}"]
    run(job, "propose", "gateway", "propose", given.model, version, *there, *traffic)
    job.log_succeeded()


if __name__ == "__main__":
    main()
