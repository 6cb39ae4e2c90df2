"""Puts together what follows the model registry."""

import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.control.control_plane import ControlPlane
from gateway.control.propose import Proposals
from gateway.control.registry.webhook import Webhook
from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings

ANY_ADDRESS: Final = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Registry:
    """What follows it. `webhook`: takes its hints; None unless that is set."""

    run_forever: Callable[[], Coroutine[Any, Any, None]]
    webhook: Webhook | None


def open_registry(settings: GatewaySettings, control: ControlPlane, proposals: Proposals, url: str) -> Registry | None:
    """What follows the registry, if the settings name one. `url`: of the control plane. Raises SettingsError."""
    if settings.registry is None:
        return None
    from gateway.control.fleet.task_assembly import open_task
    from gateway.control.registry.lead import Alone, FleetLead, Lead
    from gateway.control.registry.memory import RegistryMemory  # only with a registry: the client takes memory
    from gateway.control.registry.readiness import Readiness
    from gateway.control.registry.stop_tags import StopTags
    from gateway.control.registry.sync import RegistrySync
    from gateway.control.registry.takeover import Takeover
    from gateway.control.registry.versions import RegistryVersions
    from gateway.registry.mlflow_client import MlflowClient
    from gateway.registry.mlflow_http import MlflowHttp

    chosen = settings.registry.mlflow
    try:
        token, secret = chosen.token_value(), chosen.webhook_secret_value()
    except ValueError as error:
        raise SettingsError("gateway.yaml", [str(error)]) from None
    task = open_task(settings, control.fleet, "registry", "following the registry")
    lead: Lead = Alone() if task is None else FleetLead(task)
    routing = partial(getattr, control, "fleet_routing")
    readiness = Readiness(partial(_bound, control), routing, lead, time.monotonic_ns)
    if task is not None:
        task.is_unready, task.gives_up = readiness.is_unready, readiness.gives_up
    takeover = Takeover(lead, readiness)
    may_write = partial(getattr, takeover, "may_write")
    http = MlflowHttp(chosen.url, token=token, user=chosen.user or "", ca=chosen.ca, may_write=may_write)
    client = MlflowClient(http)
    versions = RegistryVersions(control, proposals, client, chosen.weight)
    memory = RegistryMemory(control.state, control.decision_log.replace_file)
    tags = StopTags(client, versions, control.decision_log, memory, (chosen.evidence or _reachable(url)).rstrip("/"))
    follow = chosen.follow == "champion"
    sync = RegistrySync(control, client, versions, tags, memory, takeover, poll_s=chosen.poll, champion_follows=follow)
    return Registry(sync.run_forever, Webhook(secret, sync.hint) if secret else None)


def _bound(control: ControlPlane) -> list[str]:
    return [model for model, one in control.served.items() if one.registry is not None]


def _reachable(url: str) -> str:
    """The URL, with this machine's name if it is for all its addresses."""
    host = urlsplit(url).hostname or ""
    return url.replace(f"[{host}]" if ":" in host else host, socket.gethostname(), 1) if host in ANY_ADDRESS else url
