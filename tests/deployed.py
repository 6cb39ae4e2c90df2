"""A deployment as control would plan it where nothing is remembered."""

from gateway.accepting import known
from gateway.deployment import Deployment
from gateway.release.resolve import resolve
from gateway.serving.repository import Repository
from gateway.settings.routing_settings import RoutingSettings


def served_by(repository: Repository, routing: RoutingSettings) -> Deployment:
    resolved = resolve(routing, known({}, repository, frozenset()), "routing.yaml")
    return Deployment(repository, resolved.routing, named=resolved.named)
