"""A deployment as control would plan it, with no remembered releases."""

from gateway.backends.repository import Repository
from gateway.control.config.acceptance import resolve_input
from gateway.control.config.resolve import resolve
from gateway.settings.routing import RoutingSettings
from gateway.worker.models.catalog import ModelCatalog


def served_by(repository: Repository, routing: RoutingSettings) -> ModelCatalog:
    resolved = resolve(routing, resolve_input({}, repository, frozenset()), "routing.yaml")
    return ModelCatalog(repository, resolved.routing, named=resolved.named)
