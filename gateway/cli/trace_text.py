"""Formats a trace as a tree: the prediction, its feedback, its versions, and what they were trained on.

All that is shown comes from the document, which another machine may have sent.
"""

import shlex
from collections.abc import Iterator
from typing import Any, Final

import orjson
from rich.text import Text
from rich.tree import Tree

from gateway.backends.provenance_documents import DatasetQueryDocument
from gateway.cli.provenance_text import dataset_parts, origin_text, training_parts
from gateway.offline.trace.document import VALID
from gateway.offline.trace.version import OnDisk, Role
from gateway.records.trace_document import (
    DatasetDocument,
    TracedFeedback,
    TracedMirror,
    TraceDocument,
    TracedRecord,
    TracedVersionDocument,
)
from gateway.system.printable import printable

MAX_FEEDBACK: Final = 10  # entries shown
MAX_TRUTH: Final = 80  # characters
WHOLE_HASH: Final = 64
OPEN_ENDED: Final = "its query has no end: made again, it has the rows and the truths that came later, too"
ROLES: Final[dict[str, str]] = {
    Role.ANSWERED: "answered",
    Role.FAILED: "failed on this request, so stable answered",
    Role.MIRRORED: "answered a mirrored copy",
}
STATES: Final[dict[str, tuple[str, str]]] = {
    OnDisk.INTACT: ("green", "on disk, with the same hash: {folder}"),
    OnDisk.MOVED: ("green", "on disk, with the same hash, under another number: {folder}"),
    OnDisk.OVERWRITTEN: ("red", "overwritten: {detail}; where the one that answered came from is not known any more"),
    OnDisk.REMOVED: ("red", "removed: {detail}; where it came from is not known any more"),
    OnDisk.UNREADABLE: ("red", "{folder} cannot be compared: {detail}"),
    OnDisk.REMOTE: ("yellow", "{folder}: {detail}"),
    OnDisk.UNPROVEN: ("yellow", "{folder}: {detail}"),
}
UNKNOWN_STATE: Final = "yellow", "{folder}: {detail}"  # of a later release of the gateway


def trace_tree(trace: TraceDocument) -> Tree:
    """The tree of a trace."""
    tree = Tree(Text.assemble(("prediction ", "bold"), printable(trace["prediction_id"]), overflow="fold"))
    if trace["signature"] != VALID:
        tree.add(Text(printable(f"not verified: {trace['signature']}"), "yellow"))
    _add_request(tree, trace)
    _add_feedback(tree, trace)
    for version in trace["versions"]:
        _add_version(tree, trace["model"], version, trace["mirror"] if version["role"] == Role.MIRRORED else None)
    return tree


def _add_request(tree: Tree, trace: TraceDocument) -> None:
    share = f"{trace['weight_percent']:g}% to the candidate"
    where = f"model {trace['model']}, route {trace['route']} ({share}), variant {trace['variant']}"
    if trace["record"] is None:
        node = tree.add(_line("says of itself", f"{trace['time']}, {where}"))
        node.add(Text(printable(f"no record: {trace['missing']}"), "red"))
        return
    node = tree.add(_line("recorded", f"{trace['record']['time']}, {where}"))
    for name, text in _facts(trace["record"]):
        node.add(_line(name, text))


def _facts(record: TracedRecord) -> Iterator[tuple[str, str]]:
    customer = record["customer"] or "(none)"
    yield "customer", f"{customer}, key of {record['delegated_by']}" if record["delegated_by"] else customer
    took = "" if record["latency_us"] is None else f" in {record['latency_us'] / 1000:.3g} ms"
    yield "outcome", f"{record['outcome']}{took}{': ' if record['error'] else ''}{record['error'] or ''}"
    if record["rescued_from"] is not None:
        yield "rescued", f"version {record['rescued_from']} failed ({record['rescue_reason']}); stable answered"
    if record["predicted"] is not None:
        label = f", {record['predicted_label']}" if record["predicted_label"] else ""
        yield "predicted", f"class {record['predicted']}{label}"
    elif record["predictions"] is not None:
        yield "predicted", _value(record["predictions"])
    for name, value in (("request id", record["request_id"]), ("trace id", record["trace_id"])):
        if value is not None:
            yield name, value


def _add_feedback(tree: Tree, trace: TraceDocument) -> None:
    count = trace["feedback_count"]
    if not count:
        tree.add(_line("feedback", "none so far"))
        return
    conflict = ", whose truths contradict each other" if trace["label_conflict"] else ""
    node = tree.add(_line("feedback", f"{count:,}{conflict}"))
    for one in trace["feedback"][:MAX_FEEDBACK]:
        node.add(Text(printable(f"{one['time']}  {', '.join(_said(one))}"), overflow="fold"))
    if count > MAX_FEEDBACK:
        node.add(f"… and {count - MAX_FEEDBACK:,} more")


def _said(one: TracedFeedback) -> Iterator[str]:
    values = {
        "row": one["row"],
        "truth": one["truth"],
        "correct": one["correct"],
        "reward": one["reward"],
        "metrics": one["metrics"],
        "comment": one["comment"],
        "customer": one["customer"],
    }
    for name, value in values.items():
        if value is not None:
            yield f"{name} {_value(value)}"


def _add_version(tree: Tree, model: str, version: TracedVersionDocument, mirror: TracedMirror | None) -> None:
    agreement = None if mirror is None else mirror["agreement"]
    agreed = "" if agreement is None else f", {'' if agreement else 'not '}as stable did"
    sha256 = f", sha256 {version['model_sha256']}" if version["model_sha256"] else ""
    role = ROLES.get(version["role"], version["role"])
    node = tree.add(_line(f"version {version['version']}", f"{role}{agreed}{sha256}"))
    style, words = STATES.get(version["state"], UNKNOWN_STATE)
    found = words.format(folder=version["folder"], detail=version["detail"])
    node.add(Text(printable(found), style, overflow="fold"))
    said = version["provenance"]
    if origin := said["origin"]:
        node.add(_line("registry", origin_text(origin)))
    if training := said["training"]:
        trained = "; ".join(training_parts(training))
        leaf = node.add(_line("trained", trained or "training.json does not say how"))
        for part in dataset_parts(training, WHOLE_HASH):
            leaf.add(Text(printable(part), overflow="fold"))
        if query := training["dataset_query"]:
            leaf.add(_line("made by", export_command(model, query)))
            if None in (query["until"], query["feedback_until"]):
                leaf.add(Text(OPEN_ENDED, "yellow"))
        if version["dataset"] is not None:
            _add_dataset(leaf, version["dataset"])
        elif version["dataset_problem"]:
            leaf.add(Text(printable(version["dataset_problem"]), "yellow"))
    elif version["state"] in (OnDisk.INTACT, OnDisk.MOVED) and not said["origin"]:
        node.add(Text("no training.json and no origin.json beside the model say where it comes from", "yellow"))
    for problem in said["problems"]:
        node.add(Text(printable(problem), "yellow"))


def _add_dataset(leaf: Tree, dataset: DatasetDocument) -> None:
    """What the manifest of the export says."""
    of = f" of {dataset['model']}" if dataset["model"] else ""
    rows = "" if dataset["rows"] is None else f"{dataset['rows']:,} predictions{of}, "
    truths = "" if dataset["rows_with_truth"] is None else f"{dataset['rows_with_truth']:,} with a truth, "
    first, last = dataset["first"], dataset["last"]
    made = f"made from {first} to {last}" if first and last else "without a time"
    node = leaf.add(_line("export", f"{rows}{truths}{made}"))
    for one in dataset["served"]:
        served = f"{one['rows']:,} answered by version {one['version']}, sha256 {one['sha256']}"
        node.add(Text(printable(served), overflow="fold"))


def export_command(model: str, query: DatasetQueryDocument) -> str:
    """The command that makes the export again, as long as the records are there."""
    words = ["gateway export", model]
    given = {
        "since": query["since"],
        "until": query["until"],
        "feedback-until": query["feedback_until"],
        "variant": query["variant"],
    }
    for name, value in given.items():
        if value is not None:
            words.append(f"--{name} {shlex.quote(value)}")
    return " ".join([*words, *(["--with-feedback"] if query["with_feedback"] else []), "--out DIR"])


def _line(name: str, text: str) -> Text:
    return Text.assemble((f"{name}  ", "bold"), printable(text), overflow="fold")


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= MAX_TRUTH else f"{text[: MAX_TRUTH - 1]}…"
