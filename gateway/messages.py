"""The messages between the control process and its workers, pickled over one pipe per worker. Both ends always run the
same version of the gateway.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.records.token_keys import TokenKeys
from gateway.settings.gateway import GatewaySettings
from gateway.settings.routing import RoutingSettings
from gateway.version_key import VersionKey


@dataclass(frozen=True, slots=True)
class RunsOn:
    """The execution providers that run a version in a worker. `warning`: those requested that cannot be used."""

    providers: tuple[str, ...]
    warning: str = ""


@dataclass(frozen=True, slots=True)
class ProcessSockets:
    """The Unix sockets of versions that run in processes of their own, shared by all workers.

    `versions`: those that run nowhere else. `baselines`: by model, of stable versions that run in the workers too: a
    share of their requests goes to a process, as the candidate's do, where latencies are compared.
    """

    versions: Mapping[VersionKey, str] = field(default_factory=dict)
    baselines: Mapping[str, str] = field(default_factory=dict)

    def all(self, besides: Collection[str] = ()) -> list[str]:
        """The sockets of all models `besides` these."""
        versions = [socket for (name, _), socket in self.versions.items() if name not in besides]
        return versions + [socket for name, socket in self.baselines.items() if name not in besides]


NO_PROCESSES: Final = ProcessSockets()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigGeneration:
    """One numbered configuration: the models to serve, and the shared-memory slot of each version and each release.

    `routing` holds every model that is served; `configured`: those with their own entry in the routing file.
    `unavailable`: versions that are not loaded because loading them crashed or hung a process, with the reason.
    `unloaded`: models that a client has unloaded since; `loads`: how often each model has been reloaded from disk.
    `kept`: by model, the version that was stable before the last promotion: a worker that has it loaded keeps it for an
    undo, and none loads it.
    """

    generation: int
    routing: RoutingSettings
    versions: Mapping[VersionKey, int]
    releases: Mapping[VersionKey, int]
    unavailable: Mapping[VersionKey, str]
    configured: frozenset[str] = frozenset()
    unloaded: frozenset[str] = frozenset()
    loads: Mapping[str, int] = field(default_factory=dict)
    sockets: ProcessSockets = NO_PROCESSES
    kept: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rings:
    """The ring files that a worker writes: records of predictions, feedback and mirrored answers, and evidence."""

    predictions: Path
    feedback: Path
    mirrors: Path
    events: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The first message to a worker: its index, the number of workers, the shared-memory files, and the generation to
    serve. `port` is never 0.

    `low_priority`: other workers serve while this one starts, so it runs at lower priority until it listens.
    """

    worker: int
    workers: int
    settings: GatewaySettings
    port: int
    switchboard: Path
    scoreboard: Path
    rings: Rings
    token_keys: TokenKeys
    config: ConfigGeneration
    low_priority: bool = False


@dataclass(frozen=True, slots=True)
class Prepare:
    """Load the generation's versions while the current generation is still served.

    `catch_up`: the generation came into force while this worker was starting; a version that does not load is skipped
    (`Ack.unavailable`), as at a start. `reload`: models that have been reloaded from disk since.
    """

    number: int
    config: ConfigGeneration
    catch_up: bool = False
    reload: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Commit:
    """Switch to the prepared generation."""

    number: int


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop the prepared generation."""

    number: int


@dataclass(frozen=True, slots=True)
class Load:
    """Reload a model from disk; `config` has the slots for it."""

    number: int
    name: str
    config: ConfigGeneration


@dataclass(frozen=True, slots=True)
class Unload:
    """Stop serving a model."""

    number: int
    name: str


Command = Prepare | Commit | Discard | Load | Unload


@dataclass(frozen=True, slots=True)
class Listen:
    """Start to listen. Sent at the first start once all workers are warm, later as soon as this one is."""


@dataclass(frozen=True, slots=True)
class CloseConnections:
    """Close `count` busy connections, each after its next answer, so that clients reconnect to other workers."""

    count: int


@dataclass(frozen=True, slots=True)
class AdoptKeys:
    """Sign and verify prediction ids with these keys from now on."""

    keys: TokenKeys


@dataclass(frozen=True, slots=True)
class Warm:
    """The worker has loaded its models and is able to serve. `unavailable`: versions that it could not load, with the
    reason; `runs_on`: the execution providers of all others.
    """

    unavailable: Mapping[VersionKey, str]
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
    """The worker has executed the command numbered `number`; a non-empty `error` says why it failed. `runs_on` and
    `unavailable`: as in Warm, after the command.
    """

    number: int
    error: str
    runs_on: Mapping[VersionKey, RunsOn] = field(default_factory=dict)
    unavailable: Mapping[VersionKey, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DiedAlone:
    """The process of a candidate has ended while it ran the request of this prediction, and no other."""

    version: VersionKey
    prediction_id: str


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A client asked this worker to load or unload a model; control then does it in all workers.

    `by`: who, for the history; `origin`: the client's address, if it is known.
    """

    number: int
    name: str
    load: bool
    by: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class LoadReply:
    """All workers have executed the load request; a non-empty `error` says why it failed."""

    number: int
    error: str


@dataclass(frozen=True, slots=True)
class CountRequest:
    """A request of the rate limit at these places of the RateCounters is to be counted in the fleet's store."""

    number: int
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CountReply:
    """`wait_ns`: until another request may be admitted; 0: this one is; BY_SHARE: it could not be counted."""

    number: int
    wait_ns: int


ControlMessage = (
    Command | LoadReply | CountReply | Listen | CloseConnections | AdoptKeys
)  # what a worker receives after Start
WorkerEvent = Warm | Ready | Failed | Ack | DiedAlone | LoadRequest | CountRequest
