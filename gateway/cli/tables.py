"""Formats the output of the commands as tables and text."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gateway.cli.outcome_text import difference_note, effects_table, feedback_lines
from gateway.cli.provenance_text import provenance_text
from gateway.control.api.documents import DecisionDocument, ExplanationDocument
from gateway.errors import request_counts
from gateway.settings.metric_names import DRIFTS

if TYPE_CHECKING:  # these imports are slow, and every command would wait for them
    from gateway.backends.trial import LoadResult
    from gateway.control.release.release_status import ReleaseStatus


NOT_COMPARABLE: Final = (
    "latencies are not comparable: stable may run on the event loop, while the candidate runs in a process of its own,"
    " which takes longer; with a slow_requests guard, an equal number of stable's requests run in a process too"
)


ONCE_EACH: Final = ": a sticky customer counts once"
REASON_INDENT: Final = 4
LINE_INDENT: Final = 2
NO_DECISIONS: Final = "no decisions yet"
MOST_ROWS: Final = 200  # of the table at the start of serving: laying out 10,000 takes control twenty seconds


def release_table(releases: "Sequence[ReleaseStatus]", unavailable: Mapping[tuple[str, int], str]) -> Table:
    """Return a table of what is served and the split in force, one line per route; then what is not served, and why."""
    table = Table(title="Models", title_justify="left")
    for heading in ("model", "stable", "candidate", "route", "to the candidate"):
        table.add_column(heading)
    for shown, release in enumerate(releases):
        if table.row_count >= MOST_ROWS:
            table.caption = f"… and {len(releases) - shown:,} more: gateway status"
            break
        name = release.model
        for row in _release_rows(release, unavailable):
            table.add_row(name, *row)
            name = ""
    for (name, version), why in sorted(unavailable.items()):
        table.add_row(f"[red]{name}[/red]", "", "", f"[red]version {version} is not served[/red]", escape(why))
    return table


def _release_rows(
    release: "ReleaseStatus", unavailable: Mapping[tuple[str, int], str]
) -> Iterator[tuple[str, str, str, str]]:
    there = release.candidate is not None and (release.model, release.candidate) not in unavailable
    stable, candidate = str(release.stable), str(release.candidate) if there else "-"
    if not there or not release.weights_ppm:
        yield stable, candidate, "(every request)", "0%"
        return
    for route, weight_ppm in release.weights_ppm.items():
        share = f"{weight_ppm / 10_000:g}%"
        yield stable, candidate, route, f"[red]0%, stopped[/red] (else {share})" if release.stopped else share
        stable = candidate = ""


def status_text(release: dict[str, Any]) -> RenderableType:
    """Format one release from the control plane's API: both versions, the split, the ramp and the guards."""
    stop = release["stop"]
    title = f"{release['model']}: " + (
        f"[red]stopped[/red] by {escape(stop['by'])}: {escape(stop['reason'])}"
        if stop
        else "[red]stopped[/red]"
        if release["stopped"]
        else "running"
    )
    table = Table(title=title, title_justify="left")
    for heading in ("version", "variant", "answered", "failed", "rescued", "p50 ms", "p99 ms"):
        table.add_column(heading, no_wrap=True)
    for version in release["versions"]:
        table.add_row(*_version_row(version))
    question = f"{release['model']}: is the candidate better?"
    effects = release.get("effects")
    better: list[RenderableType] = [effects_table(effects, question), *difference_note(release)] if effects else []
    return Group(table, *map(indented, _progress_lines(release)), *better, Text())


def indented(line: str | Text) -> Padding:
    """A line of text, further in than a table, also where it is wrapped."""
    return Padding(Text(line, overflow="fold") if isinstance(line, str) else line, (0, 0, 0, LINE_INDENT))


def _version_row(version: dict[str, Any]) -> Iterator[str]:
    requests, failed = request_counts(version["outcomes"])
    yield str(version["version"])
    yield version["variant"]
    yield from (f"{count:,}" for count in (requests - failed, failed, sum(version["rescues"].values())))
    yield _ms(version["latency_p50_ms"])
    yield _ms(version["latency_p99_ms"])


def _progress_lines(release: dict[str, Any]) -> Iterator[str]:
    """Yield lines on the split in force, the ramp, each version, and each guard's findings."""
    if release["routes"]:
        routes = ", ".join(f"{route['route']} {route['in_force_percent']:g}%" for route in release["routes"])
        yield f"to the candidate: {routes}{_unsplit_note(release)}"
    if ramp := release.get("ramp"):
        steps = ", ".join(f"{weight:g}" for weight in ramp["weights"])
        waiting = f"; waiting for {ramp['blocked_on']}" if ramp["blocked_on"] else ""
        yield f"ramp: {ramp['stage']} at {ramp['weight_percent']:g}% of {steps}{waiting}"
    for version in release["versions"]:
        if provenance := version.get("provenance"):
            yield f"version {version['version']}: {provenance_text(provenance)}"
        if version.get("warning"):
            yield f"version {version['version']}: {version['warning']}"
        if process := version.get("process"):
            memory = f", {process['memory_bytes'] / 2**20:,.0f} MiB" if process["memory_bytes"] else ""
            again = f", started {process['starts']} times" if process["starts"] > 1 else ""
            yield f"version {version['version']}: in a process of its own, {process['state']}{memory}{again}"
        if refused := version["outcomes"].get("client_error"):
            yield f"version {version['version']}: {refused:,} invalid requests, which do not count as failures"
    yield from feedback_lines(release)
    if not release.get("latency_compared", True) and release["candidate"] is not None:
        yield NOT_COMPARABLE
    yield from map(_guard_line, release.get("guards", ()))
    forecast = release.get("forecast", {})
    if (needed := forecast.get("requests_to_detect_doubling")) is not None:
        least, once = ("at least", ONCE_EACH) if forecast.get("at_least") else ("about", "")
        yield f"it takes {least} {needed:,.0f} requests to detect twice as many failures{once}"
    if registry := release.get("registry"):
        yield _registry_line(registry)


def _registry_line(registry: dict[str, Any]) -> str:
    aliases = ", ".join(f"{alias} {registry[alias] or '-'}" for alias in ("champion", "challenger"))
    notes = filter(None, (registry["note"], registry.get("elsewhere")))  # the release before does not say the latter
    return "; ".join((f"registry {registry['registered']}: {aliases}", *notes))


def _unsplit_note(release: dict[str, Any]) -> str:
    short = release.get("unsplit", {"requests": 0})
    if not short["requests"]:
        return ""
    return f"; {short['percent']:.2g}% of requests have too little time to run both versions, and are not split"


def _guard_line(guard: dict[str, Any]) -> str:
    name = f"guard {guard['name']} ({guard['metric']})"
    if guard["log10_e"] is None:
        return f"{name}: {guard.get('summary', 'no data yet')}"
    beyond = "different" if guard["metric"] in DRIFTS else "harmful"
    evidence, threshold = guard["log10_e"], guard["threshold_log10"]
    return f"{name}: {guard['verdict']}, evidence 10^{evidence:.1f}, {beyond} from 10^{threshold:.1f}"


def _ms(latency_ms: float | None) -> str:
    return "-" if latency_ms is None else f"{latency_ms:.3g}"


def history_text(decisions: Sequence[DecisionDocument]) -> RenderableType:
    """Format decisions in the given order: a heading and the reason of each, wrapped and never cut."""
    return Group(*(line for decision in decisions for line in _decision_lines(decision))) if decisions else NO_DECISIONS


def _decision_lines(decision: DecisionDocument) -> Iterator[RenderableType]:
    when = datetime.fromtimestamp(decision["time_ns"] / 1e9).isoformat(" ", "seconds")
    version = f" version {decision['candidate']}" if decision["candidate"] else ""
    origin = f" from {decision['evidence']['from']}" if "from" in decision["evidence"] else ""
    what = Text.assemble(
        (f"{when}  ", "dim"), (f"{decision['model']}{version}  ", ""), (decision["action"], "bold"), overflow="fold"
    )
    yield what.append(f"  by {decision['by']}{origin}", "dim")
    yield Padding(Text(decision["reason"], overflow="fold"), (0, 0, 0, REASON_INDENT))


def check_table(verdicts: "list[LoadResult]") -> Table:
    """Return a table with the result of each version's load trial."""
    table = Table(title="Checked", title_justify="left")
    for heading in ("model", "version", "", "one row takes", "batches", "runs in"):
        table.add_column(heading)
    for verdict in verdicts:
        trial = verdict.trial
        if verdict.error:
            table.add_row(trial.name, str(trial.version), "[red]refused[/red]", "", "", "")
        else:
            takes = f"{verdict.single_us:,.0f} µs" if verdict.single_us else "not measured"
            ready = "[yellow]ready, but[/yellow]" if verdict.warning else "[green]ready[/green]"
            table.add_row(trial.name, str(trial.version), ready, takes, _batches(verdict), _runs(verdict))
    return table


def prediction_lines(verdicts: "list[LoadResult]") -> list[str]:
    """Say what the versions of each model predict, those that predict the same in one line."""
    versions: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        if described := "; ".join(one.described for one in verdict.measurable):
            versions.setdefault((verdict.trial.name, described), []).append(str(verdict.trial.version))
    return [
        f"models.{name}: {'version' if len(numbers) == 1 else 'versions'} {' and '.join(numbers)}: {described}"
        for (name, described), numbers in versions.items()
    ]


def _runs(verdict: "LoadResult") -> str:
    return f"threads: {escape(verdict.off_loop_reason)}" if verdict.off_loop_reason else "event loop"


def warning_lines(warnings: Sequence[str]) -> list[Text]:
    """Format warnings about settings, one line each."""
    return [Text.from_markup(f"[yellow]warning:[/yellow] {escape(warning)}") for warning in warnings]


def _batches(verdict: "LoadResult") -> str:
    if verdict.rows > 1:
        rounded = f", rounded by up to {verdict.rounding:.0e}" if verdict.rounding else ""
        return f"of up to {verdict.rows} rows{rounded}"
    return f"no: {escape(verdict.unbatchable_reason or 'its rows are served faster one by one')}"


def explanation_text(explanation: ExplanationDocument) -> str:
    """Format an explanation: the decision first, then the routes that were tried."""
    version, bucket = explanation["version"], explanation["bucket"]
    answer = "at random" if version is None else f"version {version} ({explanation['variant']})"
    lines = [
        f"model    {explanation['model']}",
        f"answer   {answer}",
        f"route    {explanation['route']}",
        f"weight   {explanation['weight_ppm'] / 10_000:g}% to the candidate",
        f"bucket   {'-' if bucket is None else f'{bucket:,}'} (of 1,000,000; salt {explanation['salt']})",
        f"why      {explanation['why']}",
    ]
    lines += [
        f"         {'✓' if trial['matched'] else '✗'} {trial['route']}: {trial['reason']}"
        for trial in explanation["routes"]
    ]
    return "\n".join(lines)
