"""The commands `gateway promote`, its undo, and `gateway weight`: the running gateway edits its routing file, or
rolls it back.
"""

import sys
from typing import Any

import click
import orjson
from rich.console import Console

from gateway.cli.control_client import ControlAddress, call_control
from gateway.cli.fleet import spread_text
from gateway.cli.options import JSON, REASON, control_options
from gateway.cli.outcome_text import known_text
from gateway.cli.refusal import AccessDenied

DRY_RUN = click.option("--dry-run", is_flag=True, help="Show the change without making it.")
YES = click.option(
    "--yes", is_flag=True, help="Do not ask. Without a terminal for the question and the answer it is never asked."
)


@click.command()
@click.argument("model")
@control_options
@REASON
@DRY_RUN
@click.option("--undo", is_flag=True, help="Undo the last promotion: the version before it is stable again.")
@click.option(
    "--keep-routes/--drop-routes",
    help="Keep the routes: as a comment for the next candidate; with --undo, in force again. Default: drop them.",
)
@YES
@JSON
def promote(
    model: str,
    control: ControlAddress,
    reason: str,
    dry_run: bool,
    undo: bool,
    keep_routes: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make the candidate stable, in the routing file.

    Says first what is known of it, and asks. Comments are kept. On return every worker has the edit, or it was rolled
    back. The workers keep the version that was stable loaded until the entry is edited, so that --undo takes effect at
    once.
    """
    body: dict[str, Any] = {"reason": reason, "dry_run": dry_run} | ({"keep_routes": True} if keep_routes else {})
    if undo:
        edited = call_control(control, "POST", f"/api/releases/{model}/undo-promote", body)
        now = "is the candidate again, with its routes" if keep_routes else "gets no requests"
        _show(
            edited, f"version {{evidence[stable]}} of {{model}} is stable again; version {{candidate}} {now}", as_json
        )
        return
    if not as_json:
        known, question = _say_what_is_known(model, control)
        body |= known
        if question and not yes and not dry_run:
            _confirm(question)
    edited = call_control(control, "POST", f"/api/releases/{model}/promote", body)
    _show(edited, "every request of {model} is answered by version {candidate}", as_json)


@click.command()
@click.argument("model")
@click.argument("route")
@click.argument("percent", type=click.FloatRange(0, 100))
@control_options
@REASON
@DRY_RUN
@YES
@JSON
def weight(
    model: str,
    route: str,
    percent: float,
    control: ControlAddress,
    reason: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Set a route's weight in the routing file.

    PERCENT of the route's customers get the candidate. Comments are kept. Asks first if the route follows a ramp, which
    it then leaves. On return every worker has the edit, or it was rolled back.
    """
    path = f"/api/releases/{model}/weight"
    body = {"route": route, "percent": percent, "reason": reason, "dry_run": dry_run}
    edited = call_control(control, "POST", path, {**body, "dry_run": dry_run or not as_json})
    if not as_json:
        notes = edited.get("notes", [])  # a gateway of the release before has none
        for note in notes:
            click.echo(note, err=True)
        if not dry_run:
            if notes and not yes:
                _confirm(f"Set the weight of route {route} of {model}?")
            edited = call_control(control, "POST", path, body)
    _show(edited, f"route {route} of {{model}} sends {percent:g}% to version {{candidate}}", as_json)


def _confirm(question: str) -> None:
    """Ask on stderr, where it is seen even if the output goes to a file; not at all without a terminal. Raises Abort if
    the answer is no.
    """
    if sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm(question, abort=True, err=True)


def _say_what_is_known(model: str, control: ControlAddress) -> tuple[dict[str, Any], str]:
    """Print what is known of the model's candidate. Return which one is meant, for the request: if another one comes
    meanwhile, it is not promoted unseen. And what to ask; empty if there is no candidate.
    """
    try:
        release = call_control(control, "GET", f"/api/releases/{model}")
    except AccessDenied:  # a key may edit, but not read
        return {}, f"Promote the candidate of {model}? This key may not read which one it is, nor what is known of it"
    candidate = release["candidate"]
    if candidate is None:
        return {}, ""
    Console().print(known_text(release))
    return {"candidate": candidate}, f"Promote version {candidate} of {model}?"


def _show(edited: Any, done: str, as_json: bool) -> None:
    spread = edited.get("fleet")
    text, complete = spread_text(spread) if spread is not None else ("", True)
    if as_json:
        click.echo(orjson.dumps(edited))
    else:
        click.echo(edited["difference"] or "nothing to change", nl=not edited["difference"])
        if edited["decision"]:
            click.echo(done.format(**edited["decision"]))
        if text:
            click.echo(text)
    if not complete:
        sys.exit(1)
