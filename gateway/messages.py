"""What control process and workers say to each other, over a pipe of their own. Both sides are this gateway."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.records.token_keys import TokenKeys
from gateway.settings.gateway import GatewaySettings
from gateway.settings.routing import RoutingSettings
from gateway.version_key import VersionKey


@dataclass(frozen=True, slots=True)
class RunsOn:
    """The execution providers that run a version in a worker. `warning`: which were asked for and cannot be used."""

    providers: tuple[str, ...]
    warning: str = ""


@dataclass(frozen=True, slots=True)
class ConfigGeneration:
    """A configuration: what to serve, and which slot each version and each release has on the boards.

    `routing` holds every model that is served; `named`: those with an entry of their own in the routing file.
    `left_out`: versions that killed a process when they were loaded, and what was seen. `unloaded`: models that a
    client has had unloaded since; `loads`: how often each has been loaded anew.
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
    """Where a worker writes to: records of predictions, of feedback and of mirrored answers; evidence."""

    predictions: Path
    feedback: Path
    mirrors: Path
    events: Path


@dataclass(frozen=True, slots=True)
class Start:
    """The first word to a worker: who it is, where the boards are, what to serve. `port` is never 0.

    `beside`: others serve while it starts, and get a core before it until it listens.
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
    """Load what the plan needs, beside what is served.

    `late`: it is in force, for a worker that was starting meanwhile: what does not load is left out, as at a start.
    `anew`: models that have been loaded from disk again since.
    """

    order: int
    plan: ConfigGeneration
    late: bool = False
    anew: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Commit:
    """Serve what was prepared."""

    order: int


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget what was prepared."""

    order: int


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model anew from disk; the plan has the slots for it."""

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
    """Take connections: at the first start once all are warm, later at once."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Let so many busy connections go, each with an answer: others have room for them."""

    count: int


@dataclass(frozen=True, slots=True)
class Warm:
    """A worker could serve. `left_out`: the versions that it could not load, and why; `runs_on`: all others."""

    left_out: Mapping[VersionKey, str]
    runs_on: Mapping[VersionKey, RunsOn] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker listens."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker cannot serve at all."""

    error: str


@dataclass(frozen=True, slots=True)
class Ack:
    """An order is carried out, unless `error` says why not. `runs_on` and `left_out`: as they are now."""

    order: int
    error: str
    runs_on: Mapping[VersionKey, RunsOn] = field(default_factory=dict)
    left_out: Mapping[VersionKey, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A client has asked this worker to load or unload a model, which must happen in all of them."""

    load_request: int
    name: str
    load: bool


@dataclass(frozen=True, slots=True)
class LoadReply:
    """The wish has been carried out by all workers, unless `error` says why not."""

    load_request: int
    error: str


Heard = Command | LoadReply | Listen | Leave  # what a worker is told after its start
WorkerEvent = Warm | Ready | Failed | Ack | LoadRequest
