"""What the schema knows and no engine does yet. Said so rather than ignored; a line goes when its engine comes."""

from typing import Final

from gateway.settings.base import Settings
from gateway.settings.gateway_settings import GatewaySettings

_GATEWAY: Final = ("auth.keys", "limits.rate")
NOT_YET: Final = "not supported yet; take it out"


def unsupported_by_gateway(settings: GatewaySettings) -> list[str]:
    """What in gateway.yaml asks for something that is not there yet, each named by its path."""
    return [f"{path}: {NOT_YET}" for path in _GATEWAY if _given(settings, path)]


def _given(settings: Settings, path: str) -> bool:
    """Whether the file says anything but null at `path`."""
    key, _, rest = path.partition(".")
    value = getattr(settings, key)
    if key not in settings.model_fields_set or value is None:
        return False
    return not rest or _given(value, rest)
