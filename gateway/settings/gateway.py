"""gateway.yaml: the server. Every key has a default, and the defaults are only here."""

from typing import Literal

from pydantic import Field

from gateway.settings.base import Settings
from gateway.settings.units import Address, Bytes, Count, Rate, Seconds, Share, Whole

LogForm = Literal["human", "json"]


class TlsSettings(Settings):
    """PEM files: the certificate with the chain that issued it, and its private key. Read again when renewed."""

    certificate: str
    """File of the certificate, with the chain that issued it."""
    key: str
    """File of its private key, readable by the gateway only."""


class TracingSettings(Settings):
    """Spans of predictions, for OpenTelemetry."""

    endpoint: Address
    """Where its collector takes OTLP over HTTP, such as `http://127.0.0.1:4318`."""
    sample: Share = 0.01
    """The share of requests without a trace of their own that are traced; of the others the caller decides."""


class ServerSettings(Settings):
    """The data plane."""

    host: str = "127.0.0.1"
    """Address of the data plane; `0.0.0.0` for all of the machine's."""
    port: Whole = Field(default=8000, ge=0, le=65535)
    """Port of the data plane; 0 for any that is free."""
    workers: Literal["auto"] | Count = "auto"
    """Worker processes; `auto`: one for each core. In a container, write how many cores it may use."""
    max_body: Bytes = 64 * 1024 * 1024
    """The largest request, as sent and as decompressed; a larger one is answered 413."""
    drain: Seconds = 20.0
    """How long SIGTERM waits for requests that have begun."""
    heartbeat_timeout: Seconds = Field(default=10.0, gt=0)
    """A worker whose event loop shows no sign of life for so long, though it gets a core, is killed and replaced."""
    max_connection_age: Seconds | None = Field(default=None, gt=0)
    """After so long, give or take a tenth, an answer ends its connection, so that clients look anew; null: never."""
    log: LogForm = "human"
    """The log of all processes, on stderr: lines for people, or a JSON object a line."""
    tls: TlsSettings | None = None
    """Serves HTTPS with these PEM files, which are read again when they are renewed."""
    tracing: TracingSettings | None = None
    """Spans of predictions for OpenTelemetry; needs the extra `otel`."""


class ControlSettings(Settings):
    """The control plane: console, API, metrics."""

    host: str = "127.0.0.1"
    """Address of the control plane; one that is not this machine's own needs `auth.keys`."""
    port: Whole = Field(default=8002, ge=0, le=65535)
    """Port of the control plane; 0 for any that is free."""
    heartbeat_timeout: Seconds = Field(default=5.0, gt=0)
    """Without a sign of life of the control process for so long, workers send nothing to candidates."""
    tls: TlsSettings | None = None
    """As for the server."""


class ModelsSettings(Settings):
    """Where the model repository lies."""

    path: str = "models"
    """Folder of the models: `NAME/VERSION/model.onnx`, with an optional `NAME/model.yaml`."""
    load_timeout: Seconds = Field(default=300.0, gt=0)
    """How long a version may take to load and warm up; one that takes longer is refused, or left out."""


class RateSettings(Settings):
    """How many predictions a customer may ask for, in all workers together; more are answered 429."""

    default: Rate | None = None
    """Of each customer by itself; null: any number."""
    customers: dict[str, Rate] = Field(default_factory=dict)
    """Of the customers named here."""


class LimitsSettings(Settings):
    """How much is taken on at once, how long it may take, and how much of it one customer may ask for."""

    inflight: Count = 1024
    """Requests at once in each worker; more are answered 503."""
    timeout: Seconds = Field(default=10.0, gt=0)
    """A request's deadline, unless it brings its own (`parameters.timeout`, in microseconds)."""
    receiving: Bytes = 256 * 1024 * 1024
    """Bodies in each worker at once, from their first packet to the answer; of more the largest are answered 503."""
    unsent: Bytes = 256 * 1024 * 1024
    """Answers in each worker that clients have yet to read; of more the largest are cut off."""
    values: Count = 500_000
    """Values in a request's JSON that are not just a long list of a tensor's numbers; of more it is answered 413."""
    classes: Count = 20_000
    """Classes, of all rows, that an answer names by the classification extension; more are answered 400."""
    slow_reader: Seconds = Field(default=30.0, gt=0)
    """How long a client may take for an answer, or for 64 KiB of a large one, before it is cut off."""
    rate: RateSettings = RateSettings()
    """Predictions that each customer may ask for."""


class RecordsSettings(Settings):
    """What is recorded of each prediction, and how much of it is kept."""

    sample: Share = 1.0
    """The share of predictions that are recorded, with their feedback; decisions always are."""
    inputs: Literal["full", "hash", "none"] = "full"
    """What is kept of requests: all, a SHA-256, or nothing."""
    segment: Bytes = 64 * 1024**2
    """Size at which a file of records is sealed and the next one begun."""
    retain: Bytes = 10 * 1024**3
    """How much is kept; the oldest sealed files go first."""
    retain_decisions: Bytes = 256 * 1024**2
    """How much of the list of decisions is kept beside what is in force; the oldest files go first."""
    ring: Bytes = 8 * 1024**2
    """Shared memory of each worker for records on their way to the disk."""
    large: Bytes = 16 * 1024**2
    """What a worker records a second in records above 64 KiB; what is beyond is dropped, unless when_full is refuse."""
    when_full: Literal["drop", "refuse"] = "drop"
    """When the ring is full: answer without a record, and count that; or answer 503."""


class AuthSettings(Settings):
    """Who may ask for what."""

    keys: str | None = None
    """File of hashed API keys, made by `gateway keys add`; null: no keys are asked for."""


class GatewaySettings(Settings):
    """The whole file. Paths are relative to the working directory."""

    server: ServerSettings = ServerSettings()
    """The data plane, which answers predictions."""
    control: ControlSettings = ControlSettings()
    """The control plane: console, API, metrics."""
    models: ModelsSettings = ModelsSettings()
    """The model repository."""
    routing: str = "config/routing.yaml"
    """File of the releases."""
    state: str = ".gateway"
    """Folder of what outlives a restart: stops, decisions, records, the history of the routing file."""
    limits: LimitsSettings = LimitsSettings()
    """What is taken on at once, and from whom."""
    records: RecordsSettings = RecordsSettings()
    """What is kept of predictions."""
    auth: AuthSettings = AuthSettings()
    """Who may ask for what."""
