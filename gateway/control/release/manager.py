"""Steps each release's controller with failure events, feedback and counters, and applies the actions it returns.

A tick every 50 ms: evidence and feedback in, counters at every second one; weights, stops and decisions out.
"""

import itertools
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.control.guards.window import MetricWindow
from gateway.control.record_writer.collector import RecordCollector
from gateway.control.release.carry_out import ActionRunner, StopNow
from gateway.control.release.controller import Controller, outcomes_named, windows_s
from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from gateway.control.release.file_writer import FileWriter
from gateway.control.release.forecast import Progress, progress
from gateway.control.release.managed_release import UNDECLARED, ManagedRelease, live_routes
from gateway.control.release.persistence import STATES_FILE, dump, load, read_states
from gateway.control.release.sharing import Sharing
from gateway.control.release.stages import Event
from gateway.control.release.step_scheduler import StepScheduler
from gateway.errors import Conflict, NotFound, request_counts
from gateway.evidence.effect import Effect
from gateway.routing.release import Variant
from gateway.settings.routing import ReleaseSettings
from gateway.shm.boards import Boards
from gateway.shm.scoreboard import INFLIGHT
from gateway.shm.switchboard import LIVE_ROUTES
from gateway.shm.tally import Totals

LARGEST_EPOCH: Final = 1 << 40  # a larger one means that the file is damaged
SAVE_INTERVAL_S: Final = 5.0  # between two saves of the controllers' states
DUMPS_AT_ONCE: Final = 4  # between two yields
MAX_DUMPS: Final = 20  # most states dumped in a tick: those of a thousand releases would block the loop for 50 ms
log: Final = logging.getLogger("gateway.control.release")


class ReleaseManager:
    """Runs the controllers of all releases with a candidate; their states are saved in `folder`."""

    def __init__(
        self,
        folder: Path,
        boards: Boards,
        records: RecordCollector,
        decision_log: DecisionLog,
        stop_now: StopNow,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = folder / STATES_FILE
        self._board, self._scoreboard = boards.switchboard, boards.scoreboard
        self._versions, self._releases = boards.versions, boards.releases
        self._records = records
        self._decision_log = decision_log
        self.actions = ActionRunner(boards.switchboard, decision_log, stop_now)
        self._clock = clock
        self._file_writer = FileWriter()
        self._managed: dict[str, ManagedRelease] = {}
        self._declared: Mapping[str, frozenset[str]] = {}
        self._by_slot: dict[int, ManagedRelease] = {}
        self._scheduler = StepScheduler(self._board, self._scoreboard)
        self._closed: set[int] = set()  # slots whose weights stay 0 until the next configuration is in force
        self._states = read_states(self._file)
        self._stale: dict[str, None] = {}  # releases stepped since their state was last dumped, in order
        self._saved_s = -math.inf
        self._run = secrets.token_hex(4)  # whose counts on the scoreboard are told from those of other processes
        self.sharing: Sharing | None = None  # in a fleet

    @property
    def managed(self) -> Mapping[str, ManagedRelease]:
        """The releases with a candidate, by model."""
        return self._managed

    def memory_of(self, name: str) -> Mapping[str, Any]:
        """What is kept of a release between two processes."""
        return self._states.get(name, {})

    def now_s(self) -> float:
        """The time on the controllers' clock."""
        return self._clock()

    def stopped(self, one: ManagedRelease) -> bool:
        """Whether the release is stopped on this host."""
        return self._board.stopped(one.slot)

    def close_changed(self, served: Mapping[str, ReleaseSettings]) -> None:
        """Set live weights whose meaning changes to 0 until all workers serve the new configuration, `served`.

        Called before it is swapped in. Also for a new candidate: one served before has left its last weights there.
        """
        for name, settings in served.items():
            now = self._managed.get(name)
            if settings.candidate is None:
                continue
            if now is None or settings.candidate != now.candidate or live_routes(settings) != now.live:
                slot = self._releases.of(name, settings.candidate)
                self._closed.add(slot)
                self._board.set_weights(slot, [0] * LIVE_ROUTES)

    def close_routes(self, name: str) -> None:
        """Set the live weights of a release to 0 before it is resumed, until its controller sets them again."""
        one = self._managed.get(name)
        if one is not None:
            self._board.set_weights(one.slot, [0] * LIVE_ROUTES)

    def configure(self, served: Mapping[str, ReleaseSettings], declared: Mapping[str, frozenset[str]] = {}) -> None:
        """Manage these releases, which every worker already serves. `declared`: as for `prepare`."""
        self.prepare(served, declared)
        self.open_routes()

    def open_routes(self) -> None:
        """Let controllers set weights that `close_changed` had closed: every worker serves the configuration now."""
        self._closed.clear()

    def prepare(self, served: Mapping[str, ReleaseSettings], declared: Mapping[str, frozenset[str]]) -> None:
        """Manage these releases, which workers are about to serve; closed weights stay 0 until `open_routes`.
        `declared`: by model, the business metrics in model.yaml, which are counted whatever else clients send.
        """
        now_s, managed, self._declared = self._clock(), {}, declared
        for name, old in self._managed.items():
            if served.get(name) == old.settings and declared.get(name, UNDECLARED) == old.declared:
                managed[name] = old
            else:
                self._dump(old, now_s)
        for name, settings in served.items():
            if name not in managed and settings.candidate is not None:
                managed[name] = self._start(name, settings, now_s)
                self._dump(managed[name], now_s)
        self._managed = managed
        self._by_slot = {one.slot: one for one in managed.values()}
        slot_of = self._versions.of
        pairs = [(slot_of(one.name, one.settings.stable), slot_of(one.name, one.candidate)) for one in managed.values()]
        self._scheduler = StepScheduler(self._board, self._scoreboard, list(managed.values()), pairs)
        named = {name: outcomes_named(one) | declared.get(name, UNDECLARED) for name, one in served.items()}
        self._records.feedback.keep_named(named)
        for item in self._records.feedback.take_unheard({name: one.heard_until_ns for name, one in managed.items()}):
            managed[item.token.model].add_unheard(item)
        self._write(now_s)

    def steps(self) -> Iterator[None]:
        """Step the controllers that are due; yields before each, so that the caller may run other work, even a stop."""
        now_s, time_ns = self._clock(), time.time_ns()
        for event in self._records.events():
            one = self._by_slot.get(event.slot)
            if one is not None:
                one.failures.append(event)
        for item in self._records.feedback.take_new():
            one = self._managed.get(item.token.model)
            if one is not None:
                one.add_feedback(item)
        acted = False
        yield
        scheduler = self._scheduler  # an edit may put another in its place
        counts = scheduler.request_counts()
        if scheduler.releases:
            yield
        for one in scheduler.due(now_s, counts):
            yield
            if self._managed.get(one.name) is not one:
                continue
            try:
                if self._step(one, now_s, time_ns):
                    self._dump(one, now_s)
                    acted = True
                else:
                    self._stale[one.name] = None
            except Exception as error:  # no candidate without guards
                self._stale.pop(one.name, None)
                self.actions.fail(one, error)
        for number, name in enumerate([*itertools.islice(self._stale, MAX_DUMPS)]):
            if number % DUMPS_AT_ONCE == 0:
                yield
            self._stale.pop(name, None)
            if name in self._managed:
                self._dump(self._managed[name], now_s)
        if acted or now_s - self._saved_s > SAVE_INTERVAL_S:
            self._write(now_s)

    def command(self, name: str, event: Event, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        """Apply a person's hold, continue or promotion, and record it. Raises NotFound, Conflict."""
        one = self._release(name)
        if one.controller.ramp is None:
            raise Conflict(f"'{name}' has no route with weight: ramp, so there is nothing to {event}")
        now_s = self._clock()
        if self.sharing is not None:
            self.sharing.command(one, event, by)
        else:
            one.controller.command(event, now_s)
        self._dump(one, now_s)
        self._write(now_s)  # else a hold would not survive a kill in the next seconds
        return self._decision_log.record(name, one.candidate, str(event), by, reason, evidence)

    def progress(self, name: str) -> Progress | None:
        """Return how far the release is; None if it has no candidate."""
        one = self._managed.get(name)
        if one is None:
            return None
        stable = self._totals(name, one.settings.stable)
        requests, failed = request_counts(stable.outcomes(Variant.STABLE))
        return progress(one.controller, self._clock(), failed / requests if requests else None)

    def effects(self, name: str, candidate: int | None = None) -> tuple[Effect, ...]:
        """Return what is known of the candidate's effects; empty without one, or if it is another than `candidate`."""
        one = self._managed.get(name)
        return () if one is None or candidate not in (None, one.candidate) else one.controller.guards.effects()

    def weights_ppm(self, name: str) -> dict[str, int]:
        """Return the present weight of each live route in ppm, by route name."""
        one = self._managed.get(name)
        return {} if one is None else dict(zip(one.live, self._board.weights_ppm(one.slot, len(one.live)), strict=True))

    def ramp_weights_ppm(self, name: str) -> Sequence[int]:
        """Return the weights of the release's ramp, step by step; empty if it has no ramp."""
        one = self._managed.get(name)
        return one.controller.ramp.weights_ppm if one is not None and one.controller.ramp else ()

    def close(self) -> None:
        """Save the state of all controllers and close the file writer."""
        for one in self._managed.values():
            self._dump(one, self._clock())
        self._write(self._clock())
        self._file_writer.close()

    def _start(self, name: str, settings: ReleaseSettings, now_s: float) -> ManagedRelease:
        assert settings.candidate is not None
        controller, window = self._load(name, settings, now_s), MetricWindow(windows_s(settings))
        before = self._managed.get(name)
        if before is not None and (before.settings.stable, before.candidate) == (settings.stable, settings.candidate):
            window = before.window
            window.keep_windows(windows_s(settings))
            controller.inherit_conditions(before.controller)
        slot = self._releases.of(name, settings.candidate)
        self._board.advance(slot, self._last_epoch(name) + (controller.state.restart == 0))
        return ManagedRelease(
            name=name, settings=settings, controller=controller, window=window, slot=slot, live=live_routes(settings),
            declared=self._declared.get(name, UNDECLARED))  # fmt: skip

    def _last_epoch(self, name: str) -> int:
        """The model's last epoch over all candidates and runs, so that an epoch mark in a prediction id is unique."""
        epoch = self._states.get(name, {}).get("epoch")
        return epoch if type(epoch) is int and epoch < LARGEST_EPOCH else 0

    def _dump(self, one: ManagedRelease, now_s: float) -> None:
        memory = self.sharing.memory(one) if self.sharing is not None else {}
        self._states[one.name] = {**dump(one.controller, now_s), "epoch": self._board.epoch(one.slot), **memory}

    def _load(self, name: str, settings: ReleaseSettings, now_s: float) -> Controller:
        memory, declared = self._states.get(name), self._declared.get(name, UNDECLARED)
        if memory is not None:
            try:
                return load(settings, memory, now_s, declared)
            except Exception as error:  # a damaged file must not keep the gateway from starting
                log.error("%s: the entry of '%s' is damaged; its ramp starts anew: %r", self._file, name, error)
        return Controller(settings, declared)

    def _step(self, one: ManagedRelease, now_s: float, time_ns: int) -> bool:
        epoch, stopped = self._board.epoch(one.slot), self._board.stopped(one.slot)
        stable, candidate = self._totals(one.name, one.settings.stable), self._totals(one.name, one.candidate)
        sample = one.sample(self._records.feedback.by_version, stable, candidate, self._scoreboard.total(INFLIGHT))
        counts = self._scoreboard.randomised(self._versions.of(one.name, one.candidate), epoch)
        randomised = {f"{self._run}.{epoch}": counts}
        if self.sharing is not None:
            self.sharing.collect(one, epoch, sample, randomised)
            return False
        seen = one.observation(time_ns, epoch, stopped, stable, candidate, randomised=randomised)
        one.window.sample(now_s, sample)
        actions = one.controller.step(now_s, seen)
        self.actions.run(one, actions)
        self.put_weights(one, one.weights_ppm())
        return bool(actions)

    def put_weights(self, one: ManagedRelease, weights_ppm: Sequence[int]) -> None:
        """Set the weights of the live routes, unless they are closed until all workers serve the new configuration."""
        if one.slot not in self._closed:
            self._board.set_weights(one.slot, weights_ppm)

    def _totals(self, name: str, version: int) -> Totals:
        return self._scoreboard.totals(self._versions.of(name, version))

    def _release(self, name: str) -> ManagedRelease:
        if name not in self._managed:
            raise NotFound(f"'{name}' has no candidate; models with one: {', '.join(sorted(self._managed)) or 'none'}")
        return self._managed[name]

    def _write(self, now_s: float) -> None:
        self._saved_s = now_s
        memory = dict(self._states)
        self._file_writer.replace(self._file, lambda: orjson.dumps(memory))
