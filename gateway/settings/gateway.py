"""The settings of gateway.yaml. Every key has a default, and the defaults are only here."""

from typing import Final, Literal

from pydantic import Field, model_validator

from gateway.settings.base import Settings
from gateway.settings.fleet import FleetSettings
from gateway.settings.registry import RegistrySettings
from gateway.settings.units import Address, Bytes, Count, Name, Rate, Seconds, Share, Version, Whole

LogForm = Literal["human", "json"]


class TlsSettings(Settings):
    """The PEM files of a TLS certificate and its private key. They are reloaded when they change."""

    certificate: str
    """PEM file of the certificate, followed by its chain."""
    key: str
    """PEM file of its private key, readable by the gateway only."""


class TracingSettings(Settings):
    """OpenTelemetry spans of predictions."""

    endpoint: Address
    """Address of the collector (OTLP over HTTP), such as `http://127.0.0.1:4318`."""
    sample: Share = 0.01
    """The percentage of requests without trace context that are traced; else the caller's sampling flag decides."""


_ALL_INTERFACES: Final = frozenset({"0.0.0.0", "::"})
_NAMES: Final = {"localhost": "127.0.0.1", "": "0.0.0.0"}


class ServerSettings(Settings):
    """The data plane."""

    host: str = "127.0.0.1"
    """Address on which the data plane listens; `0.0.0.0`: all addresses of the machine."""
    port: Whole = Field(default=8000, ge=0, le=65535)
    """Port of the data plane; 0: any free port."""
    workers: Literal["auto"] | Count = "auto"
    """Worker processes; `auto`: one per core. In a container, set it to the number of cores that it may use."""
    max_body: Bytes = 64 * 1024 * 1024
    """The largest request body, both as sent and decompressed; larger ones are answered 413."""
    drain: Seconds = 20.0
    """After SIGTERM, how long to wait for requests in flight."""
    heartbeat_timeout: Seconds = Field(default=10.0, gt=0)
    """A worker whose event loop has not run for this long, although it had a core, is killed and replaced."""
    max_connection_age: Seconds | None = Field(default=None, gt=0)
    """A connection this old (± 10%) is closed after its next response, so that clients reconnect; null: never."""
    log: LogForm = "human"
    """Format of the log of all processes, on stderr: lines for people, or one JSON object per line."""
    tls: TlsSettings | None = None
    """Serve HTTPS with these PEM files, which are reloaded when they change; null: HTTP."""
    tracing: TracingSettings | None = None
    """OpenTelemetry spans of predictions; needs the extra `otel` (`pip install 'canary-gateway[otel]'`); null: none."""


class ControlSettings(Settings):
    """The control plane: console, API, metrics."""

    host: str = "127.0.0.1"
    """Address on which the control plane listens; any other than loopback needs `auth.keys`."""
    port: Whole = Field(default=8002, ge=0, le=65535)
    """Port of the control plane; 0: any free port."""
    metrics_port: Whole | None = Field(default=None, ge=1, le=65535)
    """Port on `server.host` that serves `GET /metrics` alone, without keys (HTTPS with `control.tls`); null: none."""
    heartbeat_timeout: Seconds = Field(default=5.0, gt=0)
    """Without a heartbeat of the control process for this long, workers send no traffic to candidates."""
    tls: TlsSettings | None = None
    """Serve HTTPS, as in `server.tls`."""


class MountedSettings(Settings):
    """Models in a folder that is read-only and filled by others, such as KServe's storage initializer.

    At each start they are linked into `models.path`, which must be a folder that the gateway may write to.
    """

    path: str = "/mnt/models"
    """The folder: `model.onnx` itself, or `VERSION/model.onnx`, or `NAME/VERSION/model.onnx`."""
    name: Name | None = None
    """The model's name, unless the folder names its models; `gateway serve --model-name` comes before it."""
    version: Version = 1
    """The version of a model without a version's folder; `gateway serve --model-version` comes before it."""


class ModelsSettings(Settings):
    """The model repository."""

    path: str = "models"
    """Folder of the models: `NAME/VERSION/model.onnx`, with an optional `NAME/model.yaml`."""
    mounted: MountedSettings | None = None
    """A read-only folder with more models, which others fill, as with KServe; null: none."""
    load_timeout: Seconds = Field(default=300.0, gt=0)
    """How long a version may take to load and warm up; if it takes longer, it is refused, or at a start not served."""
    max_proposal: Bytes = 4 * 1024**3
    """The largest version, all its files together, that `gateway propose` may put into the repository."""


class RateSettings(Settings):
    """The rate limits of customers, over all workers together, in a fleet over all hosts; beyond: 429."""

    default: Rate | None = None
    """The rate limit of each customer that `customers` does not name; null: no limit."""
    customers: dict[str, Rate] = Field(default_factory=dict)
    """The rate limits of individual customers."""


class LimitsSettings(Settings):
    """Limits on concurrency, memory, time, and the rate of each customer."""

    inflight: Count = 1024
    """Concurrent requests in each worker; further ones are answered 503. As many may wait for the fleet's store."""
    timeout: Seconds = Field(default=10.0, gt=0)
    """The deadline of a request that does not set its own (`parameters.timeout`, in microseconds)."""
    receiving: Bytes = 256 * 1024 * 1024
    """Request bodies in memory in each worker, until they are answered; beyond this the largest are answered 503."""
    unsent: Bytes = 256 * 1024 * 1024
    """Responses in memory in each worker that clients have not read; beyond this the largest are cut off."""
    values: Count = 500_000
    """Values in a request's JSON, not counting long lists of a tensor's numbers; requests with more get 413."""
    classes: Count = 20_000
    """Classes in one answer of the classification extension, over all rows; requests for more are answered 400."""
    slow_reader: Seconds = Field(default=30.0, gt=0)
    """How long a client may take to read a response, or 64 KiB of a large one, before its connection is closed."""
    rate: RateSettings = RateSettings()
    """The rate limits of customers, over all workers together, in a fleet over all hosts; beyond: 429."""


class RecordsSettings(Settings):
    """What is recorded of each prediction, and how much of it is kept."""

    sample: Share = 1.0
    """The percentage of predictions that are recorded, with their feedback; decisions are always recorded."""
    inputs: Literal["full", "hash", "none"] = "full"
    """What is recorded of a request's body: all of it, its SHA-256, or nothing."""
    segment: Bytes = 64 * 1024**2
    """Size at which a record file is sealed and the next one begun."""
    retain: Bytes = 10 * 1024**3
    """Disk space for records; beyond it the oldest sealed files are deleted."""
    retain_decisions: Bytes = 256 * 1024**2
    """Disk space for decisions; beyond it the oldest files are deleted, but never what is in force."""
    ring: Bytes = 8 * 1024**2
    """Shared memory of each worker for records on their way to the disk."""
    large: Bytes = 16 * 1024**2
    """Bytes per second that a worker records in records above 64 KiB; more are dropped unless when_full is `refuse`."""
    when_full: Literal["drop", "refuse"] = "drop"
    """If the ring is full: `drop` the record, count that and answer; or `refuse` the request with 503."""


class AuthSettings(Settings):
    """Authentication by API keys."""

    keys: str | None = None
    """File of hashed API keys, created by `gateway keys add`; null: no authentication."""


class GatewaySettings(Settings):
    """The whole file. Paths are relative to the working directory."""

    server: ServerSettings = ServerSettings()
    """The data plane, which answers predictions."""
    control: ControlSettings = ControlSettings()
    """The control plane: console, API, metrics."""
    models: ModelsSettings = ModelsSettings()
    """The model repository."""
    routing: str = "config/routing.yaml"
    """The routing file, which defines the releases."""
    state: str = ".gateway"
    """Folder of what must survive a restart: stops, decisions, records, the history of the routing file."""
    limits: LimitsSettings = LimitsSettings()
    """Limits on concurrency, memory, time, and the rate of each customer."""
    records: RecordsSettings = RecordsSettings()
    """What is recorded of predictions, and how much of it is kept."""
    auth: AuthSettings = AuthSettings()
    """Authentication by API keys."""
    fleet: FleetSettings | None = None
    """Several gateways as one: a stop on any host holds on all; null: this gateway is alone."""
    registry: RegistrySettings | None = None
    """A model registry, whose aliases name the versions to release; null: none."""

    @model_validator(mode="after")
    def _a_port_each(self) -> "GatewaySettings":
        port, hosts = self.server.port, {_NAMES.get(host, host) for host in (self.server.host, self.control.host)}
        if port and port == self.control.port and (len(hosts) == 1 or hosts & _ALL_INTERFACES):
            raise ValueError(f"server.port and control.port are both {port}; give each plane its own port")
        other = self.control.metrics_port
        if other is not None and other in (port, self.control.port):
            raise ValueError(f"control.metrics_port is {other}, which another plane has; give it a port of its own")
        return self
