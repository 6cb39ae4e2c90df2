"""Makes this host's part in the fleet's edits of the routing file from the settings."""

from pathlib import Path

from gateway.control.config.editor import RoutingEditor
from gateway.control.config.watcher import RoutingFileWatcher
from gateway.control.fleet.fleet_routing import SUFFIX, FleetRouting
from gateway.control.fleet.membership import Membership
from gateway.control.fleet.routing_entries import RoutingEntries
from gateway.control.fleet.routing_exchange import RoutingExchange
from gateway.control.fleet.routing_memory import RoutingMemory
from gateway.control.fleet.stores import open_store
from gateway.control.release.decisions import DecisionLog
from gateway.settings.gateway import GatewaySettings


def open_routing(
    settings: GatewaySettings,
    membership: Membership | None,
    routing_file: RoutingFileWatcher,
    editor: RoutingEditor,
    decision_log: DecisionLog,
) -> FleetRouting | None:
    """None without a fleet. Connects to nothing yet."""
    fleet = settings.fleet
    if fleet is None or membership is None:
        return None
    exchange = RoutingExchange(
        open_store(fleet.url(), fleet.name + SUFFIX, fleet.lease),
        membership,
        RoutingEntries(routing_file),
        RoutingMemory(Path(settings.state), fleet.name, decision_log.replace_file),
    )
    return FleetRouting(exchange, editor)
