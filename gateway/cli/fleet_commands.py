"""The command `gateway fleet remove`, which removes a host that has ended from the fleet."""

import click
import orjson

from gateway.cli.control_client import ControlAddress, call_control
from gateway.cli.options import JSON, REASON, control_options


@click.group()
def fleet() -> None:
    """Remove hosts that were killed from the fleet.

    `gateway status` lists the hosts.
    """


@fleet.command()
@click.argument("host")
@control_options
@REASON
@JSON
def remove(host: str, control: ControlAddress, reason: str, as_json: bool) -> None:
    """Remove a host that has ended without leaving.

    HOST is its name or incarnation. Its shares of the rate limits become free, and stops no longer wait for it if its
    when_lost is hold. Make sure that it has ended: one that is only cut off goes on, and the limits are exceeded by its
    shares. A host that beats is refused.
    """
    removed = call_control(control, "POST", "/api/fleet/remove", {"host": host, "reason": reason})
    if as_json:
        click.echo(orjson.dumps(removed))
        return
    found = {"its shares of the rate limits": removed["shares"], "its membership": removed["memberships"]}
    parts = [what for what, incarnations in found.items() if incarnations]
    click.echo(f"{host} is removed from the fleet: {' and '.join(parts)}")
