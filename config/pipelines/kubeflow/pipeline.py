"""From recorded traffic to a candidate, as a Kubeflow pipeline: README.md beside this file. After a change:

.venv/bin/kfp dsl compile --py config/pipelines/kubeflow/pipeline.py --output config/pipelines/kubeflow/pipeline.yaml
"""

from typing import NamedTuple

from kfp import dsl, kubernetes

IMAGE = "canary-gateway-training:0.1.0"  # made from config/pipelines/Containerfile; write where your cluster finds it
SECRET = "canary-gateway-pipelines"  # its `key` is an API key with the scopes read and operate

step = dsl.component(base_image=IMAGE, install_kfp_package=False)  # the image has it


class Results(NamedTuple):
    version: int
    analysis: dsl.HTML
    metrics: dsl.Metrics


# Kubeflow runs a step from the source of its function alone, so each imports and defines what it needs.


@step
def fix_period(since: str, until: str, feedback_until: str) -> NamedTuple(
    "Period", [("since", str), ("until", str), ("feedback_until", str)]
):
    """The absolute times that the other steps use, so that the run says for ever what it learned from."""
    from collections import namedtuple
    from datetime import UTC, datetime

    now = datetime.now(UTC).isoformat(timespec="microseconds")
    period = namedtuple("Period", ["since", "until", "feedback_until"])(since, until or now, feedback_until or now)
    print(period)
    return period


@step
def export(model: str, gateway: str, since: str, until: str, feedback_until: str, dataset: dsl.Output[dsl.Dataset]):
    """The records of the period, as a data set."""
    import json
    import subprocess
    import sys
    from pathlib import Path

    period = ["--since", since, "--until", until, "--feedback-until", feedback_until]
    if subprocess.run(["gateway", "export", model, "--url", gateway, "--out", dataset.path, *period]).returncode:
        sys.exit("export failed; the reason is above")
    manifest = json.loads((Path(dataset.path) / "_manifest.json").read_text())
    dataset.metadata.update({name: value for name, value in manifest.items() if isinstance(value, str | int)})


@step
def train(
    model: str,
    code: str,
    own_rows: int,
    dataset: dsl.Input[dsl.Dataset],
    version: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """A new version: model.onnx, and training.json, whose numbers are the metrics."""
    import json
    import shutil
    import subprocess
    import sys
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        command = ["python", f"{code}/{model}/train.py", "--dataset", dataset.path, "--own-rows", str(own_rows)]
        if subprocess.run([*command, "--out", folder, "--version", "1"]).returncode:
            sys.exit("train failed; the reason is above")
        shutil.copytree(f"{folder}/1", version.path)
    training = json.loads((Path(version.path) / "training.json").read_text())
    scalars = {name: value for name, value in training.items() if isinstance(value, str | int | float)}
    version.metadata.update({"framework": "onnx"} | scalars)
    for name in ("held_out_accuracy", "held_out_rows", "train_rows", "dataset_rows"):
        metrics.log_metric(name, training[name])


@step
def check(
    model: str,
    code: str,
    at_least: float,
    version: dsl.Input[dsl.Model],
    confusion: dsl.Output[dsl.ClassificationMetrics],
):
    """Fails unless the version is good enough on held-out rows."""
    import csv
    import subprocess
    import sys
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "held_out.csv"
        command = ["python", f"{code}/check.py", model, version.path, "--at-least", str(at_least)]
        if subprocess.run([*command, "--answers", str(answers)]).returncode:
            sys.exit("check failed; the reason is above")
        with answers.open(newline="") as file:
            rows = [(row["truth"], row["answer"]) for row in csv.DictReader(file)]
    classes = sorted({name for row in rows for name in row})
    matrix = [[rows.count((truth, answer)) for answer in classes] for truth in classes]
    confusion.log_confusion_matrix(classes, matrix)


@step
def analyze(model: str, gateway: str, since: str, until: str, feedback_until: str, analysis: dsl.Output[dsl.HTML]):
    """Where the versions in use are wrong: the run's card."""
    import subprocess
    import sys

    period = ["--since", since, "--until", until, "--feedback-until", feedback_until]
    if subprocess.run(["gateway", "analyze", model, "--url", gateway, "--html", analysis.path, *period]).returncode:
        sys.exit("analyze failed; the reason is above")


@step
def propose(model: str, gateway: str, weight: float, replace: bool, run: str, version: dsl.Input[dsl.Model]) -> int:
    """Make the version the candidate, and return its number."""
    import json
    import subprocess
    import sys

    command = ["gateway", "propose", model, version.path, "--url", gateway, "--weight", str(weight), "--json"]
    command += ["--reason", f"Kubeflow run {run}"] + ["--replace"] * replace
    proposed = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if proposed.returncode:
        sys.exit("propose failed; the reason is above")
    accepted = json.loads(proposed.stdout)
    print(f"version {accepted['version']} of {model} is the candidate", *accepted["notes"], sep="\n")
    return accepted["version"]


@dsl.pipeline(name="next-version", description="Trains a model's next version on recorded traffic, and proposes it.")
def next_version(
    model: str = "digits",
    gateway: str = "http://canary-gateway-0.canary-gateway-pods:8002",
    since: str = "2026-01-01T00:00:00Z",
    until: str = "",
    feedback_until: str = "",
    code: str = "/srv/models",
    own_rows: int = 300,
    at_least: float = 0.95,
    weight: float = 10.0,
    replace: bool = False,
) -> Results:
    """Export the records of a period, train a version from them, check it, and propose it as a candidate.

    Args:
        model: Its name at the gateway.
        gateway: The address of its control plane.
        since: Predictions from this time on.
        until: Predictions before this time; empty: the run's start.
        feedback_until: Truths before this time; empty: the run's start.
        code: The folder with check.py and MODEL/train.py.
        own_rows: How many of the script's own rows to train on too.
        at_least: The accuracy on held-out rows that a proposal needs.
        weight: The weight of the route everyone, in percent.
        replace: Also if another candidate is under way.
    """
    fixed = fix_period(since=since, until=until, feedback_until=feedback_until).set_caching_options(False)
    period = {name: fixed.outputs[name] for name in ("since", "until", "feedback_until")}
    exported = export(model=model, gateway=gateway, **period)
    trained = train(model=model, code=code, own_rows=own_rows, dataset=exported.output)
    version = trained.outputs["version"]
    checked = check(model=model, code=code, at_least=at_least, version=version)
    analyzed = analyze(model=model, gateway=gateway, **period)
    run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    proposed = propose(model=model, gateway=gateway, weight=weight, replace=replace, run=run, version=version)
    proposed.after(checked, analyzed).set_caching_options(False)
    for task in (exported, analyzed, proposed):
        kubernetes.use_secret_as_env(task, secret_name=SECRET, secret_key_to_env={"key": "GATEWAY_API_KEY"})
    return Results(proposed.output, analyzed.outputs["analysis"], trained.outputs["metrics"])
