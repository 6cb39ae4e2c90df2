"""Formats a trace as a tree: the prediction, its feedback, its versions, and what they were trained on."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
from rich.text import Text
from rich.tree import Tree

from gateway.backends.provenance import DatasetManifest, DatasetQuery
from gateway.cli.provenance_text import dataset_parts, origin_text, training_parts
from gateway.control.api.provenance_rendering import provenance_document
from gateway.offline.trace.trace import Mirror, Trace
from gateway.offline.trace.version import OnDisk, Role, TracedVersion
from gateway.records.prediction import Prediction
from gateway.records.time_range import format_time
from gateway.system.printable import printable

MAX_FEEDBACK: Final = 10  # entries shown
MAX_TRUTH: Final = 80  # characters
WHOLE_HASH: Final = 64
OPEN_ENDED: Final = "its query has no end: made again, it has the rows and the truths that came later, too"
ROLES: Final = {
    Role.ANSWERED: "answered",
    Role.FAILED: "failed on this request, so stable answered",
    Role.MIRRORED: "answered a mirrored copy",
}
STATES: Final = {
    OnDisk.INTACT: ("green", "on disk, with the same hash: {folder}"),
    OnDisk.MOVED: ("green", "on disk, with the same hash, under another number: {folder}"),
    OnDisk.OVERWRITTEN: ("red", "overwritten: {detail}; where the one that answered came from is not known any more"),
    OnDisk.REMOVED: ("red", "removed: {detail}; where it came from is not known any more"),
    OnDisk.UNREADABLE: ("red", "{folder} cannot be compared: {detail}"),
    OnDisk.REMOTE: ("yellow", "{folder}: {detail}"),
    OnDisk.UNPROVEN: ("yellow", "{folder}: {detail}"),
}


def trace_tree(trace: Trace, labels: Sequence[str] = ()) -> Tree:
    """The tree of a trace. `labels`: the names of the classes."""
    tree = Tree(Text.assemble(("prediction ", "bold"), trace.prediction_id, overflow="fold"))
    if trace.signature:
        tree.add(Text(f"not verified: {trace.signature}", "yellow"))
    _add_request(tree, trace, labels)
    _add_feedback(tree, trace)
    for version in trace.versions:
        _add_version(tree, version, trace.mirror if version.role is Role.MIRRORED else None)
    return tree


def _add_request(tree: Tree, trace: Trace, labels: Sequence[str]) -> None:
    token, prediction = trace.token, trace.prediction
    share = f"{token.weight_ppm / 10_000:g}% to the candidate"
    where = f"model {token.model}, route {token.route} ({share}), variant {token.variant}"
    if prediction is None:
        node = tree.add(_line("says of itself", f"{format_time(token.time_ns)}, {where}"))
        node.add(Text(f"no record: {trace.missing}", "red"))
        return
    node = tree.add(_line("recorded", f"{format_time(prediction.time_ns)}, {where}"))
    for name, text in _facts(prediction, labels):
        node.add(_line(name, text))


def _facts(prediction: Prediction, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    customer = prediction.customer or "(none)"
    yield "customer", f"{customer}, key of {prediction.delegated_by}" if prediction.delegated_by else customer
    took = "" if prediction.latency_us is None else f" in {prediction.latency_us / 1000:.3g} ms"
    yield "outcome", f"{prediction.outcome}{took}{f': {prediction.error}' if prediction.error else ''}"
    if prediction.rescued_from is not None:
        yield "rescued", f"version {prediction.rescued_from} failed ({prediction.rescue_reason}); stable answered"
    if prediction.predicted is not None:
        named = labels[prediction.predicted] if 0 <= prediction.predicted < len(labels) else ""
        yield "predicted", f"class {prediction.predicted}{f', {named}' if named else ''}"
    elif prediction.predictions is not None:
        yield "predicted", _value(prediction.predictions)
    for name in ("request_id", "trace_id"):
        if (value := getattr(prediction, name)) is not None:
            yield name.replace("_", " "), value


def _add_feedback(tree: Tree, trace: Trace) -> None:
    if not trace.feedback_count:
        tree.add(_line("feedback", "none so far"))
        return
    conflict = ", whose truths contradict each other" if trace.contradicting else ""
    node = tree.add(_line("feedback", f"{trace.feedback_count:,}{conflict}"))
    for record in trace.feedback[:MAX_FEEDBACK]:
        node.add(Text(printable(f"{format_time(record['time_ns'])}  {', '.join(_said(record))}"), overflow="fold"))
    if trace.feedback_count > MAX_FEEDBACK:
        node.add(f"… and {trace.feedback_count - MAX_FEEDBACK:,} more")


def _said(record: dict[str, Any]) -> Iterator[str]:
    for name in ("row", "truth", "correct", "reward", "metrics", "comment", "customer"):
        if record.get(name) is not None:
            yield f"{name} {_value(record[name])}"


def _add_version(tree: Tree, version: TracedVersion, mirror: Mirror | None) -> None:
    agreed = (
        "" if mirror is None or mirror.agreement is None else f", {'' if mirror.agreement else 'not '}as stable did"
    )
    sha256 = f", sha256 {version.sha256}" if version.sha256 else ""
    node = tree.add(_line(f"version {version.version}", f"{ROLES[version.role]}{agreed}{sha256}"))
    style, words = STATES[version.state]
    node.add(Text(printable(words.format(folder=version.folder, detail=version.detail)), style, overflow="fold"))
    said = provenance_document(version.provenance)
    if origin := said["origin"]:
        node.add(_line("registry", origin_text(origin)))
    if training := said["training"]:
        trained = "; ".join(training_parts(training))
        leaf = node.add(_line("trained", trained or "training.json does not say how"))
        for part in dataset_parts(training, WHOLE_HASH):
            leaf.add(Text(part, overflow="fold"))
        if version.provenance.training and (query := version.provenance.training.dataset_query):
            leaf.add(_line("made by", export_command(version.model, query)))
            if None in (query.until, query.feedback_until):
                leaf.add(Text(OPEN_ENDED, "yellow"))
        if version.dataset is not None:
            _add_dataset(leaf, version.dataset)
        elif version.dataset_problem:
            leaf.add(Text(version.dataset_problem, "yellow"))
    elif version.state in (OnDisk.INTACT, OnDisk.MOVED) and not said["origin"]:
        node.add(Text("no training.json and no origin.json beside the model say where it comes from", "yellow"))
    for problem in said["problems"]:
        node.add(Text(problem, "yellow"))


def _add_dataset(leaf: Tree, dataset: DatasetManifest) -> None:
    """What the manifest of the export says."""
    rows = (
        ""
        if dataset.rows is None
        else f"{dataset.rows:,} predictions{f' of {dataset.model}' if dataset.model else ''}, "
    )
    truths = "" if dataset.rows_with_truth is None else f"{dataset.rows_with_truth:,} with a truth, "
    made = f"made from {dataset.first} to {dataset.last}" if dataset.first and dataset.last else "without a time"
    node = leaf.add(_line("export", f"{rows}{truths}{made}"))
    for one in dataset.served:
        node.add(Text(f"{one.rows:,} answered by version {one.version}, sha256 {one.sha256}", overflow="fold"))


def export_command(model: str, query: DatasetQuery) -> str:
    """The command that makes the export again, as long as the records are there."""
    words = ["gateway export", model]
    for name in ("since", "until", "feedback_until", "variant"):
        if (value := getattr(query, name)) is not None:
            words.append(f"--{name.replace('_', '-')} {shlex.quote(value)}")
    return " ".join([*words, *(["--with-feedback"] if query.with_feedback else []), "--out DIR"])


def _line(name: str, text: str) -> Text:
    return Text.assemble((f"{name}  ", "bold"), printable(text), overflow="fold")


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= MAX_TRUTH else f"{text[: MAX_TRUTH - 1]}…"
