"""Makes this host's part in what one host of the fleet does for all from the settings."""

from gateway.control.fleet.membership import Membership
from gateway.control.fleet.stores import open_store
from gateway.control.fleet.task_leader import TaskLeader
from gateway.settings.gateway import GatewaySettings


def open_task(settings: GatewaySettings, membership: Membership | None, name: str, task: str) -> TaskLeader | None:
    """None without a fleet. Connects to nothing yet. `name`: of the document in the store; `task`: for the log."""
    fleet = settings.fleet
    if fleet is None or membership is None:
        return None
    return TaskLeader(task, open_store(fleet.url(), f"{fleet.name}:{name}", fleet.lease), membership)
