"""Makes this host's membership from the settings: the store's connection, what the host remembers, its name."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from gateway.control.fleet.membership import CALLS, Membership
from gateway.control.fleet.memory import FleetMemory
from gateway.control.fleet.releases import Act, FleetReleases
from gateway.control.fleet.shared_releases import Manager, SharedReleases
from gateway.control.fleet.stores import open_store
from gateway.control.fleet.timing import Timing
from gateway.control.release.decisions import DecisionLog
from gateway.control.release.trip_decisions import Served
from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings
from gateway.settings.store_url import parse_store_url
from gateway.shm.switchboard import Switchboard

MARGIN_NS: Final = 100_000_000  # a send may take so long after its look at the lease


class Commands(Protocol):
    """How the fleet stops and resumes releases on this host."""

    @property
    def stop_here(self) -> Act: ...
    @property
    def resume_here(self) -> Act: ...

    async def fence(self) -> None: ...


def open_membership(
    settings: GatewaySettings,
    port: int,
    board: Switchboard,
    served: Callable[[], Served],
    decision_log: DecisionLog,
    commands: Commands,
    manager: Manager,
) -> Membership | None:
    """The membership, told of each stop from now on, which shares the releases of `manager`; None without fleet
    settings. Connects to nothing yet. Raises SettingsError.
    """
    fleet = settings.fleet
    if fleet is None:
        return None
    try:
        store = open_store(fleet.url(), fleet.name, fleet.lease / CALLS)
    except ValueError as error:
        raise SettingsError("gateway.yaml", [str(error)]) from None
    membership = Membership(
        store,
        Timing(int(fleet.lease * 1e9), MARGIN_NS),
        board,
        FleetReleases(fleet.name, served, decision_log, commands.stop_here, commands.resume_here),
        FleetMemory(Path(settings.state), fleet.name, decision_log.replace_file),
        commands.fence,
        fleet=fleet.name,
        url=parse_store_url(fleet.url()).label,
        name=fleet.host or f"{socket.gethostname()}:{port}",
        hold=fleet.when_lost == "hold",
        heartbeat_timeout_ns=int(settings.control.heartbeat_timeout * 1e9),
    )
    decision_log.on_stop = membership.stopped_here
    membership.ramps = SharedReleases(membership, manager, store.document)
    return membership
