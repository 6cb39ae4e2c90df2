"""What the commands show: tables and words for people, JSON for scripts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from rich.markup import escape
from rich.table import Table

from gateway.release.overview import Overview
from gateway.routing.explanation import Explanation
from gateway.serving.scratch import Verdict


def release_table(releases: Sequence[Overview], left_out: Mapping[tuple[str, int], str]) -> Table:
    """What is served and the split in force, with a line for each route; what is not served, and why."""
    table = Table(title="Models", title_justify="left")
    for heading in ("model", "stable", "candidate", "route", "to the candidate"):
        table.add_column(heading)
    for release in releases:
        name = release.model
        for row in _release_rows(release, left_out):
            table.add_row(name, *row)
            name = ""
    for (name, version), why in sorted(left_out.items()):
        table.add_row(f"[red]{name}[/red]", "", "", f"[red]version {version} is not served[/red]", why)
    return table


def _release_rows(release: Overview, left_out: Mapping[tuple[str, int], str]) -> Iterator[tuple[str, str, str, str]]:
    there = release.candidate is not None and (release.model, release.candidate) not in left_out
    stable, candidate = str(release.stable), str(release.candidate) if there else "-"
    if not there or not release.weights_ppm:
        yield stable, candidate, "(every request)", "0%"
        return
    for route, weight_ppm in release.weights_ppm.items():
        share = f"{weight_ppm / 10_000:g}%"
        yield stable, candidate, route, f"[red]0%, stopped[/red] (else {share})" if release.stopped else share
        stable = candidate = ""


def status_text(release: dict[str, Any]) -> Table:
    """One release as the control plane tells it."""
    stop = release["stop"]
    title = f"{release['model']}: " + (
        f"[red]stopped[/red] by {stop['by']}: {escape(stop['reason'])}"
        if stop
        else "[red]stopped[/red]"
        if release["stopped"]
        else "running"
    )
    table = Table(title=title, title_justify="left")
    for heading in ("version", "part", "answered", "failed", "rescued", "mean ms", "routes"):
        table.add_column(heading)
    routes = ", ".join(f"{route['route']} {route['in_force_percent']:g}%" for route in release["routes"])
    for version in release["versions"]:
        outcomes = dict(version["outcomes"])
        answered = outcomes.pop("ok")
        mean = version["latency_mean_ms"]
        table.add_row(
            str(version["version"]),
            version["variant"],
            f"{answered:,}",
            f"{sum(outcomes.values()):,}",
            f"{sum(version['rescues'].values()):,}",
            "-" if mean is None else f"{mean:.3f}",
            routes if version["variant"] == "candidate" else "",
        )
    return table


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
