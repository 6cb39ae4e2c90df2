"""One model's release on this host of a fleet: brings what was seen here to the store, and follows the leader or is it.

Each exchange writes this host's log and reads all. The leader then folds the logs, steps its controller once and writes
the digest; what it has decided is carried out once the store has that. A write without a reply is repeated as it was
until it is known what has become of it: so no step is made twice, and none is lost.
"""

import secrets
from typing import Final, NamedTuple

from gateway.control.fleet import evidence
from gateway.control.fleet.counters import NOTHING, FleetSums
from gateway.control.fleet.entries import (
    FAILURE,
    KnownFeedback,
    command_entry,
    failure_entry,
    feedback_entry,
    feedback_ids,
    pair_entry,
)
from gateway.control.fleet.evidence import Digest, Log, Release
from gateway.control.fleet.host_log import HostLog
from gateway.control.fleet.leader import Leader, Plan
from gateway.control.fleet.leadership import Written, became, in_contact, leads
from gateway.control.fleet.randomised import randomised_counts
from gateway.control.fleet.release_codec import ReleaseReader, encoded_digest, encoded_log
from gateway.control.fleet.release_place import Place, fingerprint
from gateway.control.fleet.store import Document, RecordChange, Snapshot, Transaction
from gateway.control.guards.failure_sources import earlier_marks
from gateway.control.guards.observation import Randomised
from gateway.control.guards.window import Sample
from gateway.control.release.actions import Stop
from gateway.control.release.managed_release import ManagedRelease
from gateway.control.release.stages import Event, next_stage
from gateway.errors import Conflict

TRIES: Final = 4  # of the write of the own log: a digest may come between
NO_CONTACT: Final = "this host is not in contact with the fleet, so the leader cannot be asked; try again"
NO_ROOM: Final = "too much waits here to be counted by the host that runs this release's controller; ask another host"
NO_LEADER: Final = "no host of the fleet runs this release's controller yet; try again"
DIFFERS: Final = (
    "the routing file has other settings for it here than at the host that runs its controller:"
    " no traffic here on its routes with `weight: ramp` or `while`"
)


class _Write(NamedTuple):
    """A plan on its way to the store, where it may or may not be. `one`: the release for which it was made."""

    one: ManagedRelease
    plan: Plan
    transaction: Transaction


class SharedRelease:
    """`one`: the release as it is managed here, with each `collect`. `digest`: as last read or written. `problem`: why
    this host does not take part, or an empty text.
    """

    def __init__(self, document: Document, place: Place, one: ManagedRelease, kept: Digest | None) -> None:
        self._document = document
        self._place = place
        self.one = one
        self._settings = fingerprint(one.settings)
        self._log = HostLog(place.incarnation)
        self._reader = ReleaseReader()
        self._known = KnownFeedback()
        self._leader = Leader(place, self._known, kept)
        self._seen: Snapshot | None = None
        self._there_ns: int | None = None  # when the log was there, or was sent for the first time
        self._write: _Write | None = None
        self._release = Release()
        self._recent: tuple[str, ...] = ()
        self._counters = FleetSums()
        self._sums = NOTHING
        self._done_ns = place.now_ns()
        self.problem = ""

    @property
    def digest(self) -> Digest | None:
        """As last read or written."""
        return self._release.digest

    @property
    def kept(self) -> Digest | None:
        """The latest digest that this host knows to have been stored, perhaps before the store lost its data."""
        return self._leader.kept

    @property
    def lost(self) -> int:
        """Entries of this host that were never counted, since there was no room for them."""
        return self._log.lost

    @property
    def leads(self) -> bool:
        """Whether this host runs the controller, as far as it knows."""
        return in_contact(self._place.host, self._place.now_ns()) and leads(self._place.host, self.digest)

    def collect(self, one: ManagedRelease, epoch: int, sample: Sample, randomised: Randomised) -> None:
        """Take over what the release has buffered, in the switchboard's `epoch`, and its counters."""
        if one is not self.one:
            self._configure(one)
        failures, feedback, pairs = one.take_evidence()
        fleet_epoch = self._place.epoch(one)
        entries = [failure_entry(event, fleet_epoch) for event in failures if event.epoch == epoch]
        entries += [feedback_entry(event) for event in feedback]
        entries += [pair_entry(pair) for pair in pairs if pair.mark not in earlier_marks(epoch)]
        if entries:
            self._log.add(entries)
        self._log.count(sample, randomised_counts(randomised, fleet_epoch))

    def command(self, event: Event, by: str) -> None:
        """Ask the leader for it. Raises Conflict if the stage as it is known here does not allow it."""
        if not in_contact(self._place.host, self._place.now_ns()):
            raise Conflict(NO_CONTACT)
        if self.digest is None or self.problem:
            raise Conflict(self.problem or NO_LEADER)
        next_stage(self.one.controller.state.stage, event)
        if not self._log.add([command_entry(event, by, self._place.epoch(self.one))]):
            raise Conflict(NO_ROOM)

    async def exchange(self) -> None:
        """Once. Raises StoreUnavailable; ValueError if the data in the store is damaged."""
        try:
            await self._publish()
            await self._lead()
            self._done_ns = self._place.now_ns()
        except BaseException:
            self._seen = None  # what was sent may have been carried out
            if self._write is not None:  # a stop does not wait for that
                stops = [action for action in self._write.plan.actions if isinstance(action, Stop)]
                self._place.run(self._write.one, stops, self._write.plan.digest.epoch)
            raise

    def close_if_late(self) -> None:
        """Close the live routes if the last exchange was longer than a lease ago, though this host is in contact."""
        now_ns = self._place.now_ns()
        late = now_ns - self._done_ns > self._place.timing.longest_ns
        if late and in_contact(self._place.host, now_ns):
            self._place.put_weights(self.one, {})

    async def leave(self) -> None:
        """Remove this host's log: the release has no candidate here any more."""
        snapshot = await self._document.commit(None)
        if record := snapshot.members.get(self._log.name):
            await self._document.commit(_log_change(snapshot, RecordChange(self._log.name, record, None)))

    def _configure(self, one: ManagedRelease) -> None:
        self.one, before = one, self._settings
        self._settings = fingerprint(one.settings)
        self._leader.forget()
        if self._settings != before:
            self._log.drop_all()

    async def _publish(self) -> None:
        """Bring this host's log to the store, and take in what is there."""
        snapshot = self._seen or await self._document.commit(None)
        for _ in range(TRIES):
            self._look_for_log(snapshot)
            name = self._log.name
            record = self._log.record(self._settings, (self.one.settings.stable, self.one.candidate))
            before, after = snapshot.members.get(name), encoded_log(record)
            change = _log_change(snapshot, RecordChange(name, before, after)) if before != after else None
            try:
                snapshot = await self._document.commit(change)
            except BaseException:
                self._sent(record, there=before is None)  # perhaps
                raise
            if snapshot.members.get(name) == after:
                self._sent(record, there=True)
                break
        self._seen = snapshot
        self._take(snapshot)

    def _sent(self, record: Log, *, there: bool) -> None:
        """The store may have this record. `there`: if it has, then since now: a change of a record that had no reply
        does not show that there still was one.
        """
        self._log.sent(record)
        if there:
            self._there_ns = self._place.now_ns()

    def _look_for_log(self, snapshot: Snapshot) -> None:
        """Begin another log if a leader may have removed this one, with all entries counted, which it does only once
        this host was silent for long. One that has not arrived, or was deleted with the digest, is sent again.
        """
        if self._log.name in snapshot.members or self._there_ns is None:
            return
        if self._place.now_ns() - self._there_ns >= self._place.timing.longest_ns:
            self._log.begin_anew()

    def _take(self, snapshot: Snapshot) -> None:
        """What every host does with what it has read."""
        before, release = self._release, self._reader.read(snapshot)
        self._release, digest = release, release.digest
        if digest is not None:
            self._log.drop_counted(digest.offsets.get(self._log.name, 0))
            counted = evidence.counted_between(before.logs, digest.offsets)
            self._known.add(feedback_ids(entry for entry in counted if entry and entry[0] != FAILURE))
            if digest.recent != self._recent:
                self._recent = digest.recent
                self._known.add(digest.recent)
        self._sample(release)
        self.problem = DIFFERS if digest is not None and digest.settings != self._settings else ""
        if not in_contact(self._place.host, self._place.now_ns()):
            return
        if digest is not None and not self.problem and not leads(self._place.host, digest):
            self._leader.copy(self.one, digest)
            self._leader.observe(self.one, self._sums)
        self._put_weights()

    def _put_weights(self) -> None:
        digest, one = self.digest, self.one
        follows = digest is not None and not self.problem and digest.epoch == self._place.epoch(one)
        self._place.put_weights(one, digest.weights if digest is not None and follows else {})

    def _sample(self, release: Release) -> None:
        versions = self.one.settings.stable, self.one.candidate
        self._sums = self._counters.take(release.logs, self._settings, versions)
        self.one.window.sample(self._place.now_s(), self._sums)

    async def _lead(self) -> None:
        """Write what this host has to write as the leader, or to become it."""
        snapshot = self._seen
        assert snapshot is not None
        if self._write is not None:
            self._settle(snapshot, self._write, answered=False)
        if self._write is None:
            plan = self._leader.plan(self.one, self._settings, self._release, self._sums)
            if plan is None:
                return
            self._write = _Write(self.one, plan, _digest_change(snapshot, plan))
        self._seen = snapshot = await self._document.commit(self._write.transaction)
        self._settle(snapshot, self._write, answered=True)

    def _settle(self, snapshot: Snapshot, write: _Write, *, answered: bool) -> None:
        """Find out whether the store has the digest. `answered`: the store has just taken or refused it."""
        transaction = write.transaction
        found = became(transaction.new_tag, transaction.tag, snapshot.tag)
        if found is Written.UNKNOWN and not answered and snapshot.run_id == transaction.run_id:
            return  # it may be carried out yet
        self._write = None
        if found is not Written.STORED:
            self._leader.forget()
            return
        self._release = self._release._replace(digest=write.plan.digest)
        self.problem = "" if write.plan.digest.settings == self._settings else DIFFERS
        self._leader.done(write.one, write.plan)
        if write.one is not self.one:
            self._leader.forget()
        self._put_weights()


def _log_change(snapshot: Snapshot, change: RecordChange) -> Transaction:
    return Transaction(snapshot.run_id, snapshot.tag, None, snapshot.tag, (change,), urgent=False)


def _digest_change(snapshot: Snapshot, plan: Plan) -> Transaction:
    removed = tuple(RecordChange(name, snapshot.members[name], None) for name in plan.removed)
    return Transaction(
        snapshot.run_id, snapshot.tag, encoded_digest(plan.digest), secrets.token_hex(8), removed, urgent=False
    )
