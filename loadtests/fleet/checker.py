"""What must never happen in a fleet, seen from outside: true times, and what hosts were told.

Late answer: a host may send an answer of the candidate in an epoch that a confirmed stop has ended.
Lost stop: the same, where the store had lost the stop but a host that knew it was in contact in time. What only hosts
that were away knew is excused, and counted. Double step: two steps of a ramp in less than the interval. Write of a
leader after its loss. Evidence lost, or counted twice.
"""

from collections import Counter
from typing import Final, NamedTuple

from gateway.control.fleet.evidence import Evidence
from gateway.control.fleet.store_state import FIRST, LeaderObject, Words

ALWAYS: Final = -(2**62)


class Violation(AssertionError):
    """The fleet has broken a promise."""


class Stopped(NamedTuple):
    """A confirmed stop of `epoch` and of those before; of all there were if it is a person's.

    `executed_ns`: when the store had it. `life`: number of the store's life then.
    """

    epoch: int
    person: bool
    executed_ns: int
    life: int


class Life:
    """A life of the store. `kept_until_ns`: older writes were kept. `carried`: stops that hosts in contact brought."""

    __slots__ = ("carried", "first_ns", "kept_until_ns")

    def __init__(self, kept_until_ns: int) -> None:
        self.kept_until_ns = kept_until_ns
        self.first_ns: int | None = None
        self.carried: dict[str, int] = {}


class Checker:
    """`shortest_ns`: within so long of the first exchange of a life, knowledge must come for the promise to hold."""

    def __init__(self, shortest_ns: int, interval_ns: int) -> None:
        self.counts: Counter[str] = Counter()
        self.lives = [Life(ALWAYS)]
        self._shortest_ns = shortest_ns
        self._interval_ns = interval_ns
        self._confirmed: dict[str, list[Stopped]] = {}
        self._born: dict[tuple[str, int], int] = {}
        self._stepped_ns = ALWAYS

    @property
    def any_confirmed(self) -> bool:
        """Whether a stop has been confirmed: before, nothing that a host sends is wrong."""
        return bool(self._confirmed)

    def new_life(self, kept_until_ns: int) -> None:
        """The store has restarted, and has lost what was written after `kept_until_ns`."""
        self.lives.append(Life(kept_until_ns))

    def executed(self, now_ns: int, words: Words, *, told: bool) -> None:
        """The store ran an exchange of a host that knew `words`; `told`: it had had a reply in this life."""
        life = self.lives[-1]
        if life.first_ns is None:
            life.first_ns = now_ns
        if told and now_ns <= life.first_ns + self._shortest_ns:
            for release, word in words.items():
                if word.stop > life.carried.get(release, 0):
                    life.carried[release] = word.stop

    def resumed(self, now_ns: int, release: str, epoch: int) -> None:
        """An epoch has begun."""
        self._born[release, epoch] = now_ns
        self.counts["resumes"] += 1

    def confirmed(self, release: str, stopped: Stopped) -> None:
        """A stop has returned and said that no host answers from the candidate any more."""
        self._confirmed.setdefault(release, []).append(stopped)

    def dead(self, release: str, epoch: int) -> Stopped | None:
        """The confirmed stop that ended this epoch, if one did and the loss of the store's data does not excuse it."""
        born_ns = self._born.get((release, epoch), ALWAYS)
        for stopped in self._confirmed.get(release, ()):
            if born_ns < stopped.executed_ns and (stopped.person or epoch <= stopped.epoch):
                if self._excused(release, epoch, stopped):
                    self.counts["excused"] += 1
                else:
                    return stopped
        return None

    def _excused(self, release: str, epoch: int, stopped: Stopped) -> bool:
        lost = [life for life in self.lives[stopped.life + 1 :] if life.kept_until_ns < stopped.executed_ns]
        return any(life.carried.get(release, 0) < max(epoch, stopped.epoch) for life in lost)

    def may_send(self, host: str, release: str, words: Words) -> None:
        """A host may send an answer of the candidate. Raises Violation if a confirmed stop had ended its epoch."""
        if release in self._confirmed:
            epoch = words.get(release, FIRST).epoch
            if stopped := self.dead(release, epoch):
                kind = "lost stop" if stopped.life < len(self.lives) - 1 else "late answer"
                raise Violation(f"{kind}: {host} may answer from {release} in epoch {epoch}, ended by {stopped}")

    def led(self, now_ns: int, before: LeaderObject | None, after: LeaderObject, writer: str) -> None:
        """The store took a write of the leader's object."""
        old = before.state if before is not None else ""
        if after.state == old:
            self.counts["takeovers"] += 1
            return
        if before is None or before.leader != writer:
            raise Violation(f"write of a leader after its loss: {writer} wrote {after} over {before}")
        if int(after.state) != int(old or 0) + 1 or now_ns - self._stepped_ns < self._interval_ns:
            raise Violation(f"double step: {before} to {after}, {now_ns - self._stepped_ns} ns after the step before")
        self._stepped_ns = now_ns
        self.counts["steps"] += 1

    def counted(self, evidence: Evidence) -> None:
        """The store took or refused a digest. An entry's value is its number, so the sums are known."""
        offsets, lost = evidence.digest.offsets, any(log.lost for log in evidence.logs.values())
        for name, log in evidence.logs.items():
            if not log.lost and log.first != offsets.get(name, 0) + 1:
                raise Violation(f"evidence: {name}'s log begins at {log.first}, counted are {offsets.get(name, 0)}")
        expected = sum(offset * (offset + 1) // 2 for offset in offsets.values())
        if not lost and int(evidence.digest.state or 0) != expected:
            raise Violation(f"evidence: counted {evidence.digest.state}, entries {expected}")
        self.counts["digests"] += 1
