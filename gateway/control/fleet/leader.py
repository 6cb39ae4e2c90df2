"""A release's controller on a host of a fleet: the leader steps it on what all hosts have seen, others have a copy."""

import logging
import math
from dataclasses import replace
from typing import Final, NamedTuple

from gateway.control.fleet import evidence
from gateway.control.fleet.entries import Batch, KnownFeedback, batch, is_ripe, recent
from gateway.control.fleet.evidence import Digest, News, Release
from gateway.control.fleet.leadership import in_contact, leads, may_take_over
from gateway.control.fleet.randomised import randomised_of
from gateway.control.fleet.release_place import Place
from gateway.control.guards.window import Sample
from gateway.control.release.actions import Action, Advance, Stop
from gateway.control.release.controller import Controller
from gateway.control.release.managed_release import ManagedRelease
from gateway.control.release.persistence import dump, load
from gateway.control.release.stages import Stage
from gateway.errors import Conflict

MOST_FOLDED: Final = 1000  # entries in one step, which take some 10 ms of control's loop; the others with the next
WRITE_S: Final = 5.0  # the digest is written at least so often, for the age of the ramp's step
SILENT_S: Final = 3 * WRITE_S  # and a lease: a leader that has written nothing for so long is replaced
COPY_S: Final = 1.0  # between two copies of the leader's controller on another host
LOST_STOP: Final = Stop(
    "a host that ran the controller decided to stop the candidate, and was lost before it did", {}, "controller"
)
log: Final = logging.getLogger("gateway.control.fleet")


class Plan(NamedTuple):
    """A digest to be stored. Once it is, `actions` are carried out and the feedback `ids` are known. `removed`: logs
    that it replaces.
    """

    digest: Digest
    actions: tuple[Action, ...] = ()
    ids: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Leader:
    """`kept`: the latest digest that this host knows to have been stored."""

    def __init__(self, place: Place, known: KnownFeedback, kept: Digest | None) -> None:
        self._place = place
        self._known = known
        self.kept = kept
        self._version = 0  # of the digest that the controller continues
        self._copied_s = self._written_s = self._planned_s = -math.inf
        self._epoch = 0
        self._epoch_since_s = -math.inf
        self._planned: Controller | None = None  # the one whose state is in the latest plan
        self._heard, self._heard_s = 0, -math.inf  # the version of the leader's digest, and when it was new
        self._absent: dict[str, int] = {}  # since when hosts that have a log are no members, in ns

    def forget(self) -> None:
        """Load the controller from the digest before its next step: it has gone on without the store."""
        self._version = 0

    def copy(self, one: ManagedRelease, digest: Digest) -> None:
        """Take over the leader's state, soon. An older one than is known here is replaced: see `may_take_over`."""
        if self.kept is None or digest.version >= self.kept.version:
            self.kept = digest
        now_s = self._place.now_s()
        if digest.version != self._version and now_s - self._copied_s >= COPY_S:
            self._copied_s = now_s
            self._load(one, digest)

    def observe(self, one: ManagedRelease, sums: Sample) -> None:
        """What every host does but the leader: conditions are watched, and limits stop."""
        self._note_epoch(one)
        one.controller.state.epoch_began_s = self._epoch_since_s
        actions = one.controller.observe(self._place.now_s(), self._place.observation(one, sums))
        self._place.run(one, actions, self._place.epoch(one))

    def plan(self, one: ManagedRelease, settings: str, release: Release, sums: Sample) -> Plan | None:
        """The digest that this host should write next, if any."""
        place, host = self._place, self._place.host
        if not in_contact(host, place.now_ns()):
            return None
        self._note_epoch(one)
        now_s, before_s = place.now_s(), self._planned_s
        if now_s - before_s > place.timing.lease_ns / 1e9:  # contact was lost: the ramp's clock stood
            self.forget()
            self._heard = -1
        self._planned_s = now_s
        base = evidence.newest(release.digest, self.kept)
        if not leads(host, release.digest):
            silent = self._is_silent(release.digest)
            now_ns, kept = place.now_ns(), self.kept
            if may_take_over(host, release, settings, now_ns, place.timing, kept=kept, silent=silent):
                return self._begin(one, settings, base)
            return None
        assert base is not None
        if base.settings != settings or base is not release.digest:
            return self._begin(one, settings, base)
        return self._step(one, base, release, sums)

    def done(self, one: ManagedRelease, plan: Plan) -> None:
        """The store has it."""
        if self.kept is None or self.kept.leader != plan.digest.leader:
            log.info("this host runs the controller of '%s' for the fleet", one.name)
        self.kept = plan.digest
        self._version = plan.digest.version if one.controller is self._planned else 0
        self._written_s = self._place.now_s()
        self._known.add(plan.ids)
        if any(isinstance(action, Advance) for action in plan.actions):  # the step begins now that the store has it
            one.controller.state.step_started_s = self._place.now_s()
        self._place.run(one, plan.actions, plan.digest.epoch)

    def _begin(self, one: ManagedRelease, settings: str, base: Digest | None) -> Plan:
        """Become the leader, or go on with other settings: without a step, which only the leader may make."""
        incarnation, now_s = self._place.incarnation, self._place.now_s()
        if base is None:  # this host's own state, in which the time without contact does not count
            one.controller.state.step_started_s = now_s
            base = Digest(0, incarnation, settings, state=dump(one.controller, now_s))
        weights = base.weights if base.settings == settings else {}
        self._load(one, base)
        self._planned = one.controller
        state = dump(one.controller, now_s)
        epoch = base.epoch if one.controller.state.epoch is not None else 0
        version = base.version + 1
        return Plan(
            base._replace(
                version=version, leader=incarnation, settings=settings, epoch=epoch, state=state, weights=weights
            )
        )

    def _step(self, one: ManagedRelease, base: Digest, release: Release, sums: Sample) -> Plan | None:
        place = self._place
        if self._version != base.version:
            self._load(one, base)
        epoch = place.epoch(one)
        news = evidence.news(base, release.logs, MOST_FOLDED, lambda entry: is_ripe(entry, epoch))
        found = batch(news.entries, self._known)
        self._obey(one, found)
        seen = replace(
            place.observation(one, sums),
            failures=found.failures,
            feedback=found.feedback,
            pairs=found.pairs,
            randomised=randomised_of(release.logs, base.settings, epoch),
        )
        try:
            actions = one.controller.step(place.now_s(), seen)
        except Exception as error:  # no candidate without guards
            self.forget()
            place.fail(one, error)
            return None
        if self._has_lost_stop(one, epoch):
            actions = (*actions, LOST_STOP)
        removed = evidence.retired(base._replace(offsets=news.offsets), release.logs, self._is_gone)
        old = place.now_s() - self._written_s >= WRITE_S
        if not (actions or removed or old or news.offsets != base.offsets):
            return None
        self._planned = one.controller
        digest = self._digest(one, base, news, found)
        return Plan(_without(digest, release, removed), actions, found.ids, removed)

    def _has_lost_stop(self, one: ManagedRelease, epoch: int) -> bool:
        """Whether the leader before stored that it stops the release, but was lost before it did."""
        state = one.controller.state
        return state.stage is Stage.STOPPED and state.epoch == epoch and not self._place.stopped(one)

    def _digest(self, one: ManagedRelease, base: Digest, news: News, found: Batch) -> Digest:
        return base._replace(
            version=base.version + 1,
            epoch=one.controller.state.epoch or 0,
            state=dump(one.controller, self._place.now_s()),
            weights=dict(zip(one.live, one.weights_ppm(), strict=True)),
            offsets=news.offsets,
            recent=recent((*base.recent, *found.ids)),
            lost=news.lost,
        )

    def _obey(self, one: ManagedRelease, found: Batch) -> None:
        epoch = self._place.epoch(one)
        for command in found.commands:
            if command.epoch != epoch:
                log.warning("'%s': %s by %s is of an earlier epoch and has no effect", one.name, *command[:2])
                continue
            try:
                one.controller.command(command.event, self._place.now_s())
            except Conflict as error:
                log.warning("'%s': %s by %s: %s", one.name, command.event, command.by, error)

    def _load(self, one: ManagedRelease, digest: Digest) -> None:
        """Let the controller go on from the digest."""
        before, now_s = one.controller, self._place.now_s()
        try:
            one.controller = load(one.settings, digest.state, now_s, one.declared)
        except Exception as error:  # damaged data must not end the gateway
            log.error("the fleet's state of '%s' is damaged; its ramp starts anew: %r", one.name, error)
            one.controller = Controller(one.settings, one.declared)
        one.controller.inherit_conditions(before)
        state = one.controller.state
        state.epoch = digest.epoch if digest.epoch and state.restart else None
        state.epoch_began_s = self._epoch_since_s
        state.weights_ppm = {**before.state.weights_ppm, **digest.weights}
        self._version = digest.version

    def _note_epoch(self, one: ManagedRelease) -> None:
        """Remember since when the epoch lasts: limits count from there."""
        epoch = self._place.epoch(one)
        if epoch != self._epoch:
            self._epoch_since_s = self._place.now_s() if self._epoch else self._epoch_since_s
            self._epoch = epoch

    def _is_silent(self, digest: Digest | None) -> bool:
        """Whether the leader has written nothing for long, as when it reaches the store with its beats alone."""
        version, now_s = digest.version if digest is not None else 0, self._place.now_s()
        if version != self._heard:
            self._heard, self._heard_s = version, now_s
        return now_s - self._heard_s >= max(SILENT_S, self._place.timing.longest_ns / 1e9)

    def _is_gone(self, incarnation: str) -> bool:
        """Whether a host has been no member for so long that it was not only unknown here yet."""
        place = self._place
        if incarnation == place.incarnation or incarnation in place.host.members:
            self._absent.pop(incarnation, None)
            return False
        since_ns = self._absent.setdefault(incarnation, place.now_ns())
        return place.now_ns() - since_ns >= place.timing.longest_ns


def _without(digest: Digest, release: Release, removed: tuple[str, ...]) -> Digest:
    """The digest without offsets of logs that are not there, or are removed."""
    there = release.logs.keys() - set(removed)
    return digest._replace(offsets={name: offset for name, offset in digest.offsets.items() if name in there})
