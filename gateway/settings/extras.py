"""Checks that optional dependencies (extras of the package) that the settings need are installed."""

from importlib.util import find_spec
from typing import Final

from gateway.errors import SettingsError
from gateway.settings.gateway import ServerSettings

PACKAGES: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")


def check_tracing(server: ServerSettings) -> None:
    """Raise SettingsError if server.tracing is set and OpenTelemetry is not installed."""
    if server.tracing is not None and not all(map(_is_installed, PACKAGES)):
        problem = "server.tracing: needs OpenTelemetry; install it with: pip install 'canary-gateway[otel]'"
        raise SettingsError("gateway.yaml", [problem])


def check_redis() -> None:
    """Raise SettingsError if redis-py is not installed; called if fleet.store is a Redis."""
    if not _is_installed("redis.asyncio"):
        problem = "fleet.store: needs redis-py; install it with: pip install 'canary-gateway[fleet]'"
        raise SettingsError("gateway.yaml", [problem])


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
