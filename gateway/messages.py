"""The messages between the control process and its workers, pickled over one pipe for each worker. Both ends are always
the same version of this gateway.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.records.token_keys import TokenKeys
from gateway.settings.gateway import GatewaySettings
from gateway.settings.routing import RoutingSettings
from gateway.version_key import VersionKey


@dataclass(frozen=True, slots=True)
class RunsOn:
    """The execution providers that run a version in a worker. `warning`: those that were
    requested but cannot be used.
    """

    providers: tuple[str, ...]
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigGeneration:
    """One numbered configuration: the models to serve, and the shared-memory slot of each version and each release.

    `routing` holds every model that is served; `named`: those with an entry of their own in the routing file.
    `left_out`: versions that are not loaded because loading them ended or hung a process, with the reason. `unloaded`:
    models that a client has unloaded since; `loads`: how often each model has been reloaded from disk.
    """

    generation: int
    routing: RoutingSettings
    versions: Mapping[VersionKey, int]
    releases: Mapping[VersionKey, int]
    left_out: Mapping[VersionKey, str]
    named: frozenset[str] = frozenset()
    unloaded: frozenset[str] = frozenset()
    loads: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rings:
    """The ring files that a worker writes: records of predictions, of feedback and of
    mirrored answers, and evidence.
    """

    predictions: Path
    feedback: Path
    mirrors: Path
    events: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The first message to a worker: its index, the shared-memory files, and the generation to serve. `port` is never
    0.

    `beside`: other workers serve while this one starts; it runs at lower priority until it listens.
    """

    worker: int
    workers: int
    settings: GatewaySettings
    port: int
    switchboard: Path
    scoreboard: Path
    rings: Rings
    token_keys: TokenKeys
    plan: ConfigGeneration
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Prepare:
    """Load what the generation needs, while the current one is still served.

    `late`: the generation is already in force and this worker was starting meanwhile; a version that does not load is
    left out, as at a start. `anew`: models that have been reloaded from disk since.
    """

    order: int
    plan: ConfigGeneration
    late: bool = False
    anew: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Commit:
    """Switch to the prepared generation."""

    order: int


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop the prepared generation."""

    order: int


@dataclass(frozen=True, slots=True)
class Load:
    """Reload a model from disk; `plan` has the slots for it."""

    order: int
    name: str
    plan: ConfigGeneration


@dataclass(frozen=True, slots=True)
class Unload:
    """Stop serving a model."""

    order: int
    name: str


Command = Prepare | Commit | Discard | Load | Unload


@dataclass(frozen=True, slots=True)
class Listen:
    """Start to listen: at the first start once all workers are warm, later as soon as this one is."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Close `count` busy connections, each after its next answer, so that clients reconnect to other workers."""

    count: int


@dataclass(frozen=True, slots=True)
class Warm:
    """The worker has loaded its models and could serve. `left_out`: versions that it could not load, with the reason;
    `runs_on`: the execution providers of all others.
    """

    left_out: Mapping[VersionKey, str]
    runs_on: Mapping[VersionKey, RunsOn] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker listens."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker cannot serve at all."""

    error: str


@dataclass(frozen=True, slots=True)
class Ack:
    """The worker has executed the command numbered `order`; a non-empty `error` says why it failed. `runs_on` and
    `left_out`: their state after the command.
    """

    order: int
    error: str
    runs_on: Mapping[VersionKey, RunsOn] = field(default_factory=dict)
    left_out: Mapping[VersionKey, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A client asked this worker to load or unload a model; control then does it in all workers."""

    load_request: int
    name: str
    load: bool


@dataclass(frozen=True, slots=True)
class LoadReply:
    """All workers have executed the load request; a non-empty `error` says why it failed."""

    load_request: int
    error: str


Heard = Command | LoadReply | Listen | Leave  # what a worker receives after Start
WorkerEvent = Warm | Ready | Failed | Ack | LoadRequest
