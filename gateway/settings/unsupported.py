"""What the schema knows and no engine does yet. Said so rather than ignored; a line goes when its engine comes."""

from collections.abc import Iterator
from typing import Final

from gateway.settings.base import Settings
from gateway.settings.gateway_settings import GatewaySettings
from gateway.settings.routing_settings import ReleaseSettings, RoutingSettings

_GATEWAY: Final = ("auth.keys", "limits.rate")
_RELEASE: Final = ("ramp", "mirror", "guards.alpha", "guards.limits", "guards.comparisons")
NOT_YET: Final = "not supported yet; take it out"


def unsupported_by_gateway(settings: GatewaySettings) -> list[str]:
    """What in gateway.yaml asks for something that is not there yet, each named by its path."""
    return [f"{path}: {NOT_YET}" for path in _GATEWAY if _given(settings, path)]


def unsupported_by_routing(settings: RoutingSettings) -> list[str]:
    """The same for routing.yaml."""
    return [f"models.{name}.{problem}" for name, release in settings.models.items() for problem in _in_release(release)]


def _in_release(release: ReleaseSettings) -> Iterator[str]:
    for index, route in enumerate(release.split.routes if release.split else ()):
        if route.while_:
            yield f"split.routes[{index}].while: {NOT_YET}"
        if route.weight == "ramp":
            yield f"split.routes[{index}].weight: ramp is {NOT_YET}, and write a percentage"
    for key in _RELEASE:
        if _given(release, key):
            yield f"{key}: {NOT_YET}"


def _given(settings: Settings, path: str) -> bool:
    """Whether the file says anything but null at `path`."""
    key, _, rest = path.partition(".")
    value = getattr(settings, key)
    if key not in settings.model_fields_set or value is None:
        return False
    return not rest or _given(value, rest)
