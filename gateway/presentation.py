"""What the commands show: tables and words for people, JSON for scripts."""

from collections.abc import Iterator
from typing import Any

import orjson
from rich.table import Table

from gateway.deployment import Deployment, ServedModel
from gateway.routing.explanation import Explanation
from gateway.serving.scratch import Verdict


def release_table(deployment: Deployment) -> Table:
    """What is served and the split in force, with a line for each route; what is not served, and why."""
    table = Table(title="Models", title_justify="left")
    for heading in ("model", "stable", "candidate", "route", "to the candidate"):
        table.add_column(heading)
    for name, served in sorted(deployment.models.items()):
        for row in _release_rows(served):
            table.add_row(name, *row)
            name = ""
    for entry in deployment.failures():
        table.add_row(
            f"[red]{entry.name}[/red]", "", "", f"[red]version {entry.version} is not served[/red]", entry.reason
        )
    return table


def _release_rows(served: ServedModel) -> Iterator[tuple[str, str, str, str]]:
    release = served.release
    stable, candidate = str(release.stable), "-" if release.candidate is None else str(release.candidate)
    if not release.routes:
        yield stable, candidate, "(every request)", "0%"
    for route, weight_ppm in zip(release.routes, release.weights_ppm, strict=True):
        yield stable, candidate, route.name, f"{weight_ppm / 10_000:g}%"
        stable = candidate = ""


def check_table(verdicts: list[Verdict]) -> Table:
    """The outcome of each version's trial."""
    table = Table(title="Checked", title_justify="left")
    for heading in ("model", "version", "", "one row takes", "batches"):
        table.add_column(heading)
    for verdict in verdicts:
        trial = verdict.trial
        if verdict.error:
            table.add_row(trial.name, str(trial.version), "[red]refused[/red]", "", "")
        else:
            batches = f"no: {verdict.obstacle}" if verdict.obstacle else "yes"
            table.add_row(
                trial.name, str(trial.version), "[green]ready[/green]", f"{verdict.single_us:,.0f} µs", batches
            )
    return table


def explanation_text(model: str, explanation: Explanation) -> str:
    """The decision first, then how it came about."""
    decision = explanation.decision
    answer = "by chance" if decision is None else f"version {decision.version} ({decision.variant})"
    bucket = None if decision is None else decision.bucket
    lines = [
        f"model    {model}",
        f"answer   {answer}",
        f"route    {explanation.route}",
        f"weight   {explanation.weight_ppm / 10_000:g}% to the candidate",
        f"bucket   {'-' if bucket is None else f'{bucket:,}'} (of 1,000,000; salt {explanation.salt})",
        f"why      {explanation.why}",
    ]
    lines += [f"         {'✓' if trial.matched else '✗'} {trial.route}: {trial.reason}" for trial in explanation.trials]
    return "\n".join(lines)


def explanation_json(model: str, explanation: Explanation) -> bytes:
    """The same for scripts."""
    decision = explanation.decision
    document: dict[str, Any] = {
        "model": model,
        "version": decision.version if decision else None,
        "variant": decision.variant if decision else None,
        "route": explanation.route,
        "bucket": decision.bucket if decision else None,
        "weight_ppm": explanation.weight_ppm,
        "propensity": decision.propensity if decision else None,
        "key": explanation.key,
        "key_source": explanation.key_source,
        "salt": explanation.salt,
        "why": explanation.why,
        "routes": [
            {"route": trial.route, "matched": trial.matched, "reason": trial.reason} for trial in explanation.trials
        ],
    }
    return orjson.dumps(document)
