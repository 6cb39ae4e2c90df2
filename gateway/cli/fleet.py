"""What the commands print about the fleet: its hosts, and on how many of them a stop or a resume holds."""

from collections.abc import Iterator
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway.cli.tables import indented

MOST_NAMED: Final = 10  # models in a line
SILENT_S: Final = 1.5  # three beats: less is no news
OF_FLEET: Final = "fleet_epoch"  # in the evidence of a decision that is the fleet's


def fleet_text(fleet: dict[str, Any]) -> RenderableType:
    """Format the fleet from the control plane's API: its hosts, and whether candidates get traffic on this one."""
    table = Table(title=f"Fleet {escape(fleet['name'])}, {escape(fleet['store'])}", title_justify="left")
    for heading in ("host", "stops in force", "when lost", "heard"):
        table.add_column(heading)
    for member in fleet["members"]:
        table.add_row(*_member_row(member, fleet["leaders"]))
    return Group(table, *(indented(Text.from_markup(line)) for line in _lines(fleet)), Text())


def _member_row(member: dict[str, Any], leaders: list[dict[str, Any]]) -> Iterator[str]:
    marks = ["this one"] if member["here"] else []
    led = [one["model"] for one in leaders if one["leader"] == member["name"]]
    marks += [escape(f"leads {model}") for model in led]
    yield escape(member["name"]) + (f" ({', '.join(marks)})" if marks else "")
    yield "all" if member["up_to_date"] else "[yellow]not all yet[/yellow]"
    yield "[yellow]hold[/yellow]" if member["hold"] else "close"
    silent_s = member["silent_s"]
    yield "now" if silent_s < SILENT_S else f"[red]silent for {silent_s:,.0f} s[/red]"


def _lines(fleet: dict[str, Any]) -> Iterator[str]:
    why = escape(fleet["why"])
    if not fleet["open"]:
        yield f"[red]candidates get no traffic on this host:[/red] {why}"
    elif why:
        yield f"[yellow]candidates get traffic on this host, but:[/yellow] {why}"
    else:
        yield f"candidates get traffic on this host; its lease is {fleet['lease_s']:g} s"
    for one in fleet["leaders"]:
        if one["why"]:
            yield f"[yellow]{escape(one['model'])}: {escape(one['why'])}[/yellow]"
        elif one["leader"] is None:
            yield f"[yellow]{escape(one['model'])}: no host runs its ramp and guards yet[/yellow]"
    for release in fleet["unconfirmed"]:
        model, _, version = release.rpartition("/")
        yield f"[red]the stop of version {version} of {escape(model)} is not confirmed on all hosts[/red]"
    if rates := fleet.get("rates"):
        yield from _rate_lines(rates)
    if routing := fleet.get("routing"):
        yield from _routing_lines(routing)
    if problem := fleet.get("keys_problem"):
        yield f"[yellow]keys of prediction ids are not exchanged with other hosts:[/yellow] {escape(problem)}"


def _routing_lines(routing: dict[str, Any]) -> Iterator[str]:
    for drift in routing["drift"]:
        models = ", ".join(drift["models"][:MOST_NAMED]) + (", …" if len(drift["models"]) > MOST_NAMED else "")
        yield f"[yellow]{escape(drift['host'])} has other entries in its routing file:[/yellow] {escape(models)}"
    for waiting in routing["waiting"]:
        yield f"[yellow]{escape(waiting['model'])}: an edit is not made here:[/yellow] {escape(waiting['why'])}"
    if routing["problem"]:
        yield f"[yellow]edits are not exchanged with other hosts:[/yellow] {escape(routing['problem'])}"


def _rate_lines(rates: dict[str, Any]) -> Iterator[str]:
    if rates["newcomer"]:
        yield "[yellow]a tenth of each rate limit is admitted here: this host has not had contact yet[/yellow]"
    else:
        follow = f"; {rates['following']:,} limits follow the demand" if rates["following"] else ""
        yield f"{rates['share']:.1%} of each rate limit are admitted here{follow}"
    if rates["problem"]:
        yield f"[yellow]shares of rate limits do not move:[/yellow] {escape(rates['problem'])}"
    for kept in rates["kept"]:
        name, remedy = escape(kept["name"]), f"if it has ended: gateway fleet remove {escape(kept['name'])}"
        yield f"[yellow]{name} is out of contact and keeps {kept['share']:.1%} of each rate limit; {remedy}[/yellow]"


def stopped_text(decision: dict[str, Any]) -> tuple[str, bool]:
    """What to print after a stop, and whether it is confirmed: without a fleet it is once it is made."""
    done = f"version {decision['candidate']} of {decision['model']} is stopped"
    known = decision.get("fleet")
    if known is None:
        return done, True
    if known["confirmed"]:
        hosts = f"{known['hosts']} host{'s' if known['hosts'] > 1 else ''}"
        return f"{done} on {hosts}, confirmed after {known['ms']:.0f} ms", True
    where = f", but unconfirmed on {', '.join(known['missing'])}" if known["missing"] else " here only: unconfirmed"
    return f"{done}{where}; {known['reason']}. This host goes on trying: see gateway status", False


def spread_text(spread: dict[str, Any]) -> tuple[str, bool]:
    """What to print after an edit in a fleet, and whether it is in force on all hosts."""
    hosts = f"{spread['hosts']} host{'s' if spread['hosts'] > 1 else ''}"
    if spread["problem"]:
        told = f"the other hosts do not know of it: {spread['problem']}. This host goes on trying"
        return f"in force here only; {told}", False
    if not spread["missing"]:
        return f"in force on {hosts}", True
    lines = [f"in force on {spread['applied']} of {hosts}", *(f"  {m['host']}: {m['why']}" for m in spread["missing"])]
    return "\n".join(lines), False


def resumed_text(decision: dict[str, Any]) -> str:
    """What to print after a resume."""
    everywhere = " on all hosts" if OF_FLEET in decision["evidence"] else ""
    return f"version {decision['candidate']} of {decision['model']} receives traffic again{everywhere}"
