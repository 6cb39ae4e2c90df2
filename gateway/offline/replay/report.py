"""Renders a replay for the terminal and as JSON for scripts."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from rich.table import Table

from gateway.offline.replay.comparison import TOLERANCE, Match, ReplayComparison
from gateway.offline.replay.replay import Replay
from gateway.offline.statistics import Rate, percent
from gateway.settings.model import Kind

AGREEMENTS: Final[Mapping[Kind | None, str]] = {
    Kind.MULTILABEL: "same labels",
    Kind.REGRESSION: "within the tolerance",
    Kind.RANKING: "same order",
    Kind.EMBEDDING: "similar vectors",
}
LOSSES: Final[Mapping[Kind | None, str]] = {Kind.REGRESSION: "MAE", Kind.MULTILABEL: "labels wrong"}


def table(replay: Replay) -> Table:
    """Return a table with a column for each version that had answered."""
    how = "in batches" if replay.batched else "one by one"
    title = f"{replay.model}: {replay.count:,} recorded predictions on version {replay.version}, {how}"
    result = Table(title=title, title_justify="left")
    result.add_column("answered then by")
    for version in replay.by_version:
        result.add_column(f"version {version}" + (" (the same)" if version == replay.version else ""))
    columns = [_column(comparison) for comparison in replay.by_version.values()]
    for cells in zip(*columns, strict=True):
        result.add_row(cells[0][0], *(value for _, value in cells))
    return result


def remarks(replay: Replay) -> list[str]:
    """Return sentences to print below the table: skipped predictions, the first failures, a changed model file."""
    lines = []
    if replay.unanswered or replay.unrecorded:
        lines.append(
            f"Skipped: {replay.unanswered:,} that had failed, {replay.unrecorded:,} without a recorded request."
        )
    same = replay.by_version.get(replay.version)
    if same is not None and same.other_file:
        lines.append(
            f"{same.other_file:,} were answered by a file of version {replay.version} that is not on disk now."
        )
    for version, comparison in replay.by_version.items():
        if comparison.first_error:
            lines.append(f"The first failure, of those that version {version} answered: {comparison.first_error}")
        if version == replay.version and comparison.examples:
            lines.append(f"Different now: {', '.join(comparison.examples)}")
    return lines


def document(replay: Replay) -> bytes:
    """Return the whole result as JSON."""
    return orjson.dumps(
        {
            "model": replay.model,
            "version": replay.version,
            "batched": replay.batched,
            "replayed": replay.count,
            "skipped": {"failed": replay.unanswered, "not_recorded": replay.unrecorded},
            "answered_by": [
                {"version": version, "same_version": version == replay.version, **_comparison(comparison)}
                for version, comparison in replay.by_version.items()
            ],
        }
    )


def _column(comparison: ReplayComparison) -> list[tuple[str, str]]:
    quantiles = comparison.quantiles()
    distance = ", ".join(f"{name} {value:.3g}" for name, value in quantiles.items()) or "-"
    sameness = comparison.matches
    judged = comparison.judgement
    then, now = judged.mean_losses
    shown = LOSSES.get(judged.kind)
    truths = [
        ("right then", f"{percent(judged.accuracy_then)} of {judged.labelled:,}"),
        ("right now", f"{percent(judged.accuracy_now)} of {judged.labelled:,}"),
        ("wrong then, right now", f"{judged.fixed:,}"),
        ("right then, wrong now", f"{judged.regressed:,}"),
    ]
    if shown is not None:
        truths = [
            (f"{shown} then", f"{then:.4g} of {judged.labelled:,}" if judged.labelled else "-"),
            (f"{shown} now", f"{now:.4g}" if judged.labelled else "-"),
            ("closer to the truth now", f"{judged.fixed:,}"),
            ("further from it now", f"{judged.regressed:,}"),
        ]
    return [
        ("predictions", f"{comparison.count:,}"),
        ("the same bit for bit", f"{sameness[Match.EXACT]:,}"),
        (f"within {TOLERANCE:g}", f"{sameness[Match.CLOSE]:,}"),
        ("different", f"{sameness[Match.DIFFERENT]:,}"),
        ("failed now", f"{comparison.failed:,}"),
        ("would be rescued", f"{comparison.unfit:,}"),
        ("distance", distance),
        (AGREEMENTS.get(judged.kind, "same class"), f"{percent(judged.agreement)} of {judged.compared:,}"),
        *truths,
    ]


def _comparison(comparison: ReplayComparison) -> dict[str, Any]:
    judged = comparison.judgement
    return {
        "predictions": comparison.count,
        **{str(sameness): count for sameness, count in comparison.matches.items()},
        "failed": comparison.failed,
        "unfit": comparison.unfit,
        "first_error": comparison.first_error or None,
        "other_file": comparison.other_file,
        "different_examples": comparison.examples,
        "distance": comparison.quantiles(),
        "kind": judged.kind,
        "class_agreement": _rate(judged.agreement),
        "accuracy_then": _rate(judged.accuracy_then),
        "accuracy_now": _rate(judged.accuracy_now),
        "loss_then": judged.mean_losses[0],
        "loss_now": judged.mean_losses[1],
        "least_cosine": judged.least if judged.kind is Kind.EMBEDDING and judged.compared else None,
        "fixed": judged.fixed,
        "regressed": judged.regressed,
    }


def _rate(rate: Rate) -> dict[str, Any]:
    return {"hits": rate.hits, "count": rate.count, "rate": rate.value, "low": rate.low, "high": rate.high}
