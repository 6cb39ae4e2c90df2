"""The commands `status`, `stop`, `resume`, `hold`, `continue` and `history`, through the running control plane."""

import time
from typing import Any, Final

import click
import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from gateway.cli.control_client import ControlAddress, call_control
from gateway.cli.fleet import fleet_text, resumed_text, stopped_text
from gateway.cli.options import JSON, REASON, control_options
from gateway.cli.refusal import CommandError
from gateway.cli.tables import history_text, status_text, warning_lines
from gateway.cli.traffic import traffic_text
from gateway.cli.watch import Overview, Rates

REFRESH_S: Final = 0.5
CLOSED_TEXT: Final = (
    "The gateway started with a routing file that it refuses: it serves the remembered stable versions, and no"
    " candidate receives traffic until the file is fixed."
)


@click.command()
@click.argument("model", required=False)
@control_options
@click.option("--watch", is_flag=True, help="Refresh twice a second until Ctrl-C.")
@JSON
def status(model: str | None, control: ControlAddress, watch: bool, as_json: bool) -> None:
    """Show the releases: weights, stops, both versions' metrics.

    Also their traffic in the last hour and day, and the most frequent routes and customers.

    In a fleet also its hosts, and whether candidates get traffic on this one. With --watch one line a model, as many
    as fit the terminal.
    """
    if as_json and watch:
        raise click.UsageError("--watch cannot be combined with --json; scripts can read the stream GET /api/events")
    if as_json:
        click.echo(orjson.dumps(_releases(model, control)))
    elif watch:
        _watch(model, control)
    else:
        Console().print(_shown(model, control))


def _watch(model: str | None, control: ControlAddress) -> None:
    rates = Rates()

    def shown() -> RenderableType:
        return _shown(model, control) if model else _overview(control, rates)

    try:
        with Live(shown(), console=Console(), auto_refresh=False, screen=True, vertical_overflow="crop") as live:
            while True:
                time.sleep(REFRESH_S)
                live.update(shown(), refresh=True)
    except KeyboardInterrupt:
        return


def _overview(control: ControlAddress, rates: Rates) -> Overview:
    releases, state = _releases(None, control), call_control(control, "GET", "/api/config")
    alarms = [CLOSED_TEXT] if state["candidates_closed"] else []
    if state["last_error"]:
        alarms.append(f"The last edit is not in force: {' '.join(state['last_error'].split())}")
    fleet = _fleet(control)
    if fleet and not fleet["open"]:
        alarms.append(f"Candidates get no traffic on this host: {fleet['why']}")
    return Overview(releases, rates.of(releases), alarms)


def _shown(model: str | None, control: ControlAddress) -> RenderableType:
    releases = _releases(model, control)
    traffic = {one["model"]: one for one in _traffic(model, control)}
    parts: list[RenderableType] = []
    for release in releases if isinstance(releases, list) else [releases]:
        parts.append(status_text(release))
        if release["model"] in traffic:
            parts.append(traffic_text(traffic[release["model"]]))
    state = call_control(control, "GET", "/api/config")
    if state["candidates_closed"]:
        parts.append(Text(CLOSED_TEXT, "red"))
    if state["last_error"]:
        parts.append(Text.from_markup(f"[red]The last edit is not in force:[/red] {escape(state['last_error'])}"))
    parts.extend(warning_lines(state["warnings"]))
    if fleet := _fleet(control):
        parts.append(fleet_text(fleet))
    return Group(*parts)


def _fleet(control: ControlAddress) -> Any:
    try:
        return call_control(control, "GET", "/api/fleet")["fleet"]
    except CommandError:  # during an upgrade, the gateway that runs is still of the release before
        return None


def _traffic(model: str | None, control: ControlAddress) -> list[Any]:
    try:
        found = call_control(control, "GET", f"/api/releases/{model}/traffic" if model else "/api/traffic")
    except CommandError:  # as in _fleet
        return []
    return found if isinstance(found, list) else [found]


def _releases(model: str | None, control: ControlAddress) -> Any:
    return call_control(control, "GET", f"/api/releases/{model}" if model else "/api/releases")


@click.command()
@click.argument("model")
@control_options
@REASON
@JSON
def stop(model: str, control: ControlAddress, reason: str, as_json: bool) -> None:
    """Stop all traffic to a model's candidate at once.

    The stop holds until `gateway resume`, across restarts and edits. In a fleet it holds on all hosts, or the command
    fails and says on which it may not.
    """
    decision = _sent("stop", model, control, reason)
    said, confirmed = stopped_text(decision)
    if as_json:
        click.echo(orjson.dumps(decision))
    elif confirmed:
        click.echo(said)
    _warn_if_not_on_disk(decision, as_json)
    if not confirmed:
        raise CommandError(said)


@click.command()
@click.argument("model")
@control_options
@REASON
@JSON
def resume(model: str, control: ControlAddress, reason: str, as_json: bool) -> None:
    """Send traffic to the candidate again, as its routes say.

    In a fleet on all hosts.
    """
    decision = _sent("resume", model, control, reason)
    _show(decision, resumed_text(decision), as_json)


@click.command()
@click.argument("model")
@control_options
@REASON
@JSON
def hold(model: str, control: ControlAddress, reason: str, as_json: bool) -> None:
    """Hold a model's ramp at its weight until it is continued."""
    _show(_sent("hold", model, control, reason), f"the ramp of {model} is held", as_json)


@click.command("continue")
@click.argument("model")
@control_options
@REASON
@JSON
def continue_(model: str, control: ControlAddress, reason: str, as_json: bool) -> None:
    """Continue a model's ramp that was held or paused."""
    _show(_sent("continue", model, control, reason), f"the ramp of {model} continues", as_json)


@click.command()
@click.argument("model", required=False)
@control_options
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The most to list.")
@JSON
def history(model: str | None, control: ControlAddress, limit: int, as_json: bool) -> None:
    """List changes and decisions, newest first."""
    question = f"?limit={limit}" + (f"&model={model}" if model else "")
    decisions = call_control(control, "GET", f"/api/decisions{question}")
    if as_json:
        click.echo(orjson.dumps(decisions))
    else:
        Console().print(history_text(decisions))


def _sent(action: str, model: str, control: ControlAddress, reason: str) -> Any:
    """Send a command on a release; returns its decision."""
    return call_control(control, "POST", f"/api/releases/{model}/{action}", {"reason": reason})


def _show(decision: Any, done: str, as_json: bool) -> None:
    click.echo(orjson.dumps(decision) if as_json else done)
    _warn_if_not_on_disk(decision, as_json)


def _warn_if_not_on_disk(decision: Any, as_json: bool) -> None:
    if not as_json and not decision["on_disk"]:
        click.echo("this is in force but not yet on disk: a restart before it is written would undo it", err=True)
