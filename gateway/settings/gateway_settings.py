"""gateway.yaml: the server. Every key has a default, and the defaults are only here."""

from typing import Literal

from pydantic import Field, PositiveInt

from gateway.settings.base import Settings
from gateway.settings.units import Bytes, Rate, Seconds, Share

LogForm = Literal["human", "json"]


class TlsSettings(Settings):
    """PEM files: the certificate with the chain that issued it, and its private key. Read again when renewed."""

    certificate: str
    key: str


class ServerSettings(Settings):
    """The data plane. `max_body` in bytes, as sent and as decompressed; `drain` in seconds; `log`: of all processes."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: Literal["auto"] | PositiveInt = "auto"
    max_body: Bytes = 64 * 1024 * 1024
    drain: Seconds = 20.0
    log: LogForm = "human"
    tls: TlsSettings | None = None


class ControlSettings(Settings):
    """The control plane. Without its heartbeat for `dead_after` seconds every candidate counts as stopped."""

    host: str = "127.0.0.1"
    port: int = Field(default=8002, ge=0, le=65535)
    dead_after: Seconds = 5.0
    tls: TlsSettings | None = None


class ModelsSettings(Settings):
    """Where the model repository lies."""

    path: str = "models"


class RateSettings(Settings):
    """Predictions per second that each customer may ask for, in all workers together; None: any number."""

    default: Rate | None = None
    customers: dict[str, Rate] = Field(default_factory=dict)


class LimitsSettings(Settings):
    """`inflight`: requests at once, more are shed; `timeout`: seconds until a request's deadline."""

    inflight: PositiveInt = 1024
    timeout: Seconds = Field(default=10.0, gt=0)
    rate: RateSettings = RateSettings()


class RecordsSettings(Settings):
    """What is recorded of each prediction, and how much of it is kept. Sizes in bytes."""

    sample: Share = 1.0
    inputs: Literal["full", "hash", "none"] = "full"
    segment: Bytes = 64 * 1024**2
    retain: Bytes = 10 * 1024**3
    ring: Bytes = 8 * 1024**2
    when_full: Literal["drop", "refuse"] = "drop"


class AuthSettings(Settings):
    """The file of hashed API keys; None: no keys are asked for."""

    keys: str | None = None


class GatewaySettings(Settings):
    """The whole file. Paths are relative to the working directory."""

    server: ServerSettings = ServerSettings()
    control: ControlSettings = ControlSettings()
    models: ModelsSettings = ModelsSettings()
    routing: str = "config/routing.yaml"
    state: str = ".gateway"
    limits: LimitsSettings = LimitsSettings()
    records: RecordsSettings = RecordsSettings()
    auth: AuthSettings = AuthSettings()
