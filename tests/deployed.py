"""A deployment as control would plan it where nothing is remembered."""

from gateway.backends.repository import Repository
from gateway.control.config.acceptance import known
from gateway.control.config.resolve import resolve
from gateway.settings.routing import RoutingSettings
from gateway.worker.models.catalog import Deployment


def served_by(repository: Repository, routing: RoutingSettings) -> Deployment:
    resolved = resolve(routing, known({}, repository, frozenset()), "routing.yaml")
    return Deployment(repository, resolved.routing, named=resolved.named)
