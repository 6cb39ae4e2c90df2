"""What must never happen in a fleet, seen from outside: true times, and what hosts were told.

Late answer: a host may send an answer of the candidate in an epoch that a confirmed stop has ended.
Lost stop: the same, where the store had lost the stop but a host that knew it was in contact in time. What only hosts
that were away knew is excused, and counted. Double step: two steps of a ramp in less than the interval. Write of a
leader after its loss. Evidence lost, or counted twice.
"""

from collections import Counter
from typing import Final, NamedTuple

from gateway.control.fleet.evidence import Digest
from gateway.control.fleet.store_state import FIRST, Words

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
    """A life of the store. `kept_until_ns`: older writes were kept. `carried`: stops that hosts in contact brought in
    time; `brought`: when at any time, with the stop, since a snapshot of it may come before that.
    """

    __slots__ = ("began_ns", "brought", "carried", "first_ns", "kept_until_ns")

    def __init__(self, began_ns: int, kept_until_ns: int) -> None:
        self.began_ns = began_ns
        self.kept_until_ns = kept_until_ns
        self.first_ns: int | None = None
        self.carried: dict[str, int] = {}
        self.brought: dict[str, list[tuple[int, int]]] = {}


class Checker:
    """`shortest_ns`: within so long of the first exchange of a life, knowledge must come for the promise to hold."""

    def __init__(self, shortest_ns: int, interval_ns: int) -> None:
        self.counts: Counter[str] = Counter()
        self.lives = [Life(ALWAYS, ALWAYS)]
        self._shortest_ns = shortest_ns
        self._interval_ns = interval_ns
        self._confirmed: dict[str, list[Stopped]] = {}
        self._born: dict[tuple[str, int], int] = {}
        self._stepped_ns = ALWAYS
        self._steps = 0

    @property
    def any_confirmed(self) -> bool:
        """Whether a stop has been confirmed: before, nothing that a host sends is wrong."""
        return bool(self._confirmed)

    def new_life(self, now_ns: int, kept_until_ns: int) -> None:
        """The store has restarted, and has lost what was written after `kept_until_ns`."""
        self.lives.append(Life(now_ns, kept_until_ns))

    def executed(self, now_ns: int, words: Words, *, told: bool) -> None:
        """The store ran an exchange of a host that knew `words`; `told`: it had had a reply in this life."""
        life = self.lives[-1]
        if life.first_ns is None:
            life.first_ns = now_ns
        if not told:
            return
        in_time = now_ns <= life.first_ns + self._shortest_ns
        for release, word in words.items():
            brought = life.brought.setdefault(release, [(now_ns, 0)])
            if word.stop > brought[-1][1]:
                brought.append((now_ns, word.stop))
            if in_time and word.stop > life.carried.get(release, 0):
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
        wanted = max(epoch, stopped.epoch)
        missing = [life for life in self.lives[stopped.life + 1 :] if life.carried.get(release, 0) < wanted]
        return any(not self._had(release, wanted, stopped, life.kept_until_ns) for life in missing)

    def _had(self, release: str, wanted: int, stopped: Stopped, at_ns: int) -> bool:
        """Whether the store had the stop at this time: it may have lost it, and have got it back later."""
        number = max((number for number, life in enumerate(self.lives) if life.began_ns < at_ns), default=-1)
        if number <= stopped.life:
            return number == stopped.life and stopped.executed_ns <= at_ns
        life = self.lives[number]
        if any(brought_ns <= at_ns and stop >= wanted for brought_ns, stop in life.brought.get(release, ())):
            return True
        return self._had(release, wanted, stopped, life.kept_until_ns)

    def may_send(self, host: str, release: str, words: Words) -> None:
        """A host may send an answer of the candidate. Raises Violation if a confirmed stop had ended its epoch."""
        if release in self._confirmed:
            epoch = words.get(release, FIRST).epoch
            if stopped := self.dead(release, epoch):
                kind = "lost stop" if stopped.life < len(self.lives) - 1 else "late answer"
                raise Violation(f"{kind}: {host} may answer from {release} in epoch {epoch}, ended by {stopped}")

    def led(self, now_ns: int, before: Digest | None, after: Digest) -> None:
        """The store took a digest. Steps that it had lost, and a host brings back, are no new ones."""
        steps = after.state.steps
        if before is None or before.leader != after.leader:
            self.counts["takeovers"] += 1
            if steps > self._steps:
                raise Violation(f"write of a leader after its loss: {after} over {before}")
        if steps <= self._steps:
            return
        if steps != self._steps + 1 or now_ns - self._stepped_ns < self._interval_ns:
            raise Violation(f"double step: {before} to {after}, {now_ns - self._stepped_ns} ns after the step before")
        self._stepped_ns, self._steps = now_ns, steps
        self.counts["steps"] += 1

    def counted(self, digest: Digest) -> None:
        """The store took a digest. An entry's value is its number, so the sums are known."""
        self.counts["digests"] += 1
        if digest.lost:
            self.counts["entries lost"] += 1
            if not (self.counts["store old"] or self.counts["store empty"]):
                raise Violation(f"evidence lost: {digest}")
            return
        expected = sum(offset * (offset + 1) // 2 for offset in digest.offsets.values())
        if digest.state.total != expected:
            raise Violation(f"evidence: counted {digest.state.total}, entries {expected}")
