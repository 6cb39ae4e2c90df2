"""Feedback as units of evidence: what was drawn counts once, at the chance that this outcome is the candidate's.

A request without a sticky key is one unit, a sticky key is one: its first outcome, or the first that `thinning` leaves.
Which of the two is right cannot be told from feedback, so evidence must hold for both. Outcomes that come from the same
part of the feedback (the truth of one output, the reward, one business metric) come together, and are units together.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from gateway.control.guards.evidence import log_harm, reached
from gateway.control.guards.failure_counts import attributed, rows
from gateway.control.guards.feedback_shares import FeedbackShares
from gateway.control.guards.heard_keys import HeardKeys
from gateway.control.guards.observation import FeedbackEvent, Randomised
from gateway.control.guards.waiting_outcomes import WaitingOutcomes
from gateway.evidence.differences import OutcomeShares, Units, units
from gateway.evidence.effect import LARGEST_RATIO, FeedbackShare
from gateway.evidence.key_bounds import KeyBounds
from gateway.evidence.thinning import Thinning, draw_of
from gateway.routing.buckets import BUCKETS
from gateway.settings.guards import ComparisonSettings
from gateway.settings.metric_names import METRICS_PREFIX

MOST_PARTS: Final = 32  # of the feedback, beside those that are always counted, those that came first
MOST_KEYS: Final = 50_000  # sticky keys known of a part that is always counted; outcomes of others are no evidence
MOST_OTHER_KEYS: Final = 10_000  # of any other
ALWAYS: Final = frozenset({"", "reward"})  # parts that are always counted, whatever else clients send
MISMATCH_RATIOS: Final = (0.25, 0.5, 0.67, 0.8, 1.25, 1.5, 2.0, 4.0)
MISMATCH_ALPHA: Final = 0.001


@dataclass(slots=True)
class NewUnits:
    """The new units of one outcome, in order: one list each, of the same length.

    `chances`: of the candidate, where each key's first outcome counts; `thinned`: where the first that thinning leaves
    does. 0 if it does not count there.
    """

    values: list[float] = field(default_factory=list)
    candidate: list[bool] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    thinned: list[float] = field(default_factory=list)
    routes: list[str] = field(default_factory=list)

    def add_one(self, event: FeedbackEvent, outcome: str, chance: float, thinned: float) -> None:
        """Add an outcome that was the candidate's with these chances."""
        self.values.append(event.outcomes[outcome])
        self.candidate.append(event.candidate)
        self.chances.append(chance)
        self.thinned.append(thinned)
        self.routes.append(event.route)

    def add(self, later: "NewUnits") -> None:
        """Add those that have come later."""
        self.values += later.values
        self.candidate += later.candidate
        self.chances += later.chances
        self.thinned += later.thinned
        self.routes += later.routes

    @property
    def first_units(self) -> Units:
        """Those that are a key's first, or a request's."""
        return _units(self, self.chances)

    @property
    def thinned_units(self) -> Units:
        """Those that thinning leaves."""
        return _units(self, self.thinned)


def _units(new: NewUnits, chances: list[float]) -> Units:
    found = units(new.values, new.candidate, chances, new.routes)
    return found.part(found.chances > 0)


class _Part:
    """One part of the feedback: its sticky keys, the candidate's share of what comes, and what waits to be older.

    `heard`, `heard_shares`: where each key's first outcome counts; `keys`, `shares`: where what thinning leaves does.
    """

    def __init__(self, delay_ns: int, most_keys: int) -> None:
        self.delay_ns = delay_ns
        self.keys = KeyBounds(most_keys)
        self.heard = HeardKeys(self.keys, most_keys)
        self.heard_shares = OutcomeShares()
        self.thinning = Thinning()
        self.shares = OutcomeShares()
        self.counts: Counter[tuple[float, bool]] = Counter()  # as those of failures, of all that is heard
        self.waiting = WaitingOutcomes(delay_ns)

    def chances(self, event: FeedbackEvent) -> tuple[float, float]:
        """Return the chance that the outcome is the candidate's as a key's first, and as the first that thinning
        leaves; 0 where it is no evidence. Counts it.
        """
        weight_ppm, candidate, key, route = event.weight_ppm, event.candidate, event.key, event.route
        if key is None:
            first = left = weight_ppm / BUCKETS
        else:
            left = self.keys.chance(weight_ppm, key)
            counts = left > 0 and self.thinning.counts(route, left, candidate, draw_of(key, event.decided_ns))
            first, left = self.heard.learn(weight_ppm, candidate, key, counts=counts), left if counts else 0.0
        if 0 < first < 1:
            self.counts[first, candidate] += 1
        return _share(self.heard_shares, route, first, candidate), _share(self.shares, route, left, candidate)


def _share(shares: OutcomeShares, route: str, chance: float, candidate: bool) -> float:
    return shares.next((route, chance), chance, candidate) if 0 < chance < 1 else 0.0


class Outcomes:
    """All parts of a release's feedback in one epoch. `comparisons`: some wait for predictions to be older. `declared`:
    outcomes that are always counted, too.
    """

    def __init__(self, comparisons: Iterable[ComparisonSettings], declared: frozenset[str] = frozenset()) -> None:
        self._declared = frozenset(map(part_of, declared))
        self._delays_ns: dict[str, int] = dict.fromkeys(ALWAYS, 0)
        for one in comparisons:
            if one.outcome:
                part, delay_ns = part_of(one.outcome), round((one.feedback_delay or 0) * 1e9)
                self._delays_ns[part] = max(self._delays_ns.get(part, 0), delay_ns)
        self._parts: dict[str, _Part] = {}
        self.feedback_shares = FeedbackShares(self._delays_ns.values())

    def ingest(
        self, events: Iterable[FeedbackEvent], time_ns: int, randomised: Randomised | None = None
    ) -> Mapping[str, NewUnits]:
        """Take in events of this epoch, in order; return the new units by the outcome's name. `randomised`: as in
        Observation.
        """
        self.feedback_shares.observe(randomised, time_ns)
        new: defaultdict[str, NewUnits] = defaultdict(NewUnits)
        self._count_ripe(time_ns, new)  # which makes room
        for event in events:
            for name, outcomes in by_part(tuple(event.outcomes)):
                part = self._part(name)
                if part is None:
                    continue
                if not part.delay_ns:
                    self._count(name, part, event, outcomes, new)
                else:
                    part.waiting.add(event, outcomes, time_ns)
        self._count_ripe(time_ns, new)
        return new

    def hear(self, events: Iterable[FeedbackEvent]) -> None:
        """Take in events of this epoch for the shares alone."""
        for event in events:
            for name, _ in by_part(tuple(event.outcomes)):
                if self._part(name) is not None:
                    self.feedback_shares.hear(name, event.decided_ns, event.candidate)

    def limits_reached(self, outcome: str) -> str:
        """In words, which outcomes do not count since there is no room for them; empty if all do."""
        part = self._parts.get(part_of(outcome))
        if part is None:
            return ""
        full = f"{len(part.heard):,} sticky keys are known, later ones do not count" if part.heard.is_full else ""
        dropped = part.waiting.dropped
        late = f"{dropped:,} outcomes found no room to wait for feedback_delay" if dropped else ""
        return ", ".join(filter(None, (full, late)))

    def feedback_ratio(self, outcome: str) -> float | None:
        """How many times as often the outcome comes for the candidate as for stable; None unless it is certain that it
        comes more often for one of them (sample ratio mismatch).
        """
        part = self._parts.get(part_of(outcome))
        if part is None or not _is_mismatch(part.counts):
            return None
        return _likeliest_ratio(part.counts)

    def feedback_share(self, outcome: str) -> FeedbackShare | None:
        """For which share of both versions' predictions the outcome has come; None if that cannot be known."""
        name = part_of(outcome)
        part = self._parts.get(name)
        return None if part is None or part.waiting.dropped else self.feedback_shares.read(name, part.delay_ns)

    def restart(self) -> None:
        """Start the shares over, for a new step of the ramp; what is known of sticky keys is kept."""
        for part in self._parts.values():
            part.heard_shares.clear()
            part.shares.clear()

    def reset(self) -> None:
        """Start over, for a new epoch."""
        self._parts = {}
        self.feedback_shares.reset()

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file, without that of `feedback_shares`."""
        return {
            name: {
                "known": part.keys.to_packed(),
                **part.heard.to_json(),
                "heard_shares": part.heard_shares.to_json(),
                "thinning": part.thinning.to_json(),
                "shares": part.shares.to_json(),
                "counts": rows(part.counts),
                "waiting": part.waiting.to_packed(),
                "dropped": part.waiting.dropped,
            }
            for name, part in self._parts.items()
        }

    def restore(self, kept: Mapping[str, Any]) -> frozenset[str]:
        """Restore the output of `to_json`; return the parts that start anew: an earlier gateway kept them, which knew
        one way of counting, and it is certain that feedback comes more often for one version. Evidence on them may be
        wrong, and the keys that have not counted yet may be others for each version.
        """
        self._parts, anew = {}, set()
        for name, state in kept.items():
            part = self._part(name)
            if part is None:
                continue
            part.waiting.restore(state["waiting"])
            part.waiting.dropped = state["dropped"]
            counts = Counter({key: number for key, number in attributed(state["counts"]).items() if number})
            if "heard_shares" not in state and state["known"] and _is_mismatch(counts):
                anew.add(name)
                continue
            part.keys.restore(state["known"])
            part.heard.restore(state)
            alike = not state.get("thinning")  # no key is sticky, or an earlier gateway thinned nothing
            part.heard_shares.restore(state.get("heard_shares", state["shares"] if alike else ()))
            part.thinning.restore(state.get("thinning", ()))
            part.shares.restore(state["shares"])
            part.counts = counts
        return frozenset(anew)

    def _count_ripe(self, time_ns: int, new: Mapping[str, NewUnits]) -> None:
        for name, part in self._parts.items():
            for event, outcomes in part.waiting.ripe(time_ns):
                self._count(name, part, event, outcomes, new)

    def _count(
        self, name: str, part: _Part, event: FeedbackEvent, outcomes: tuple[str, ...], new: Mapping[str, NewUnits]
    ) -> None:
        self.feedback_shares.hear(name, event.decided_ns, event.candidate)
        first, left = part.chances(event)
        if first or left:
            for outcome in outcomes:
                new[outcome].add_one(event, outcome, first, left)

    def _part(self, name: str) -> _Part | None:
        """One that is always counted, or among the first of the others."""
        if name not in self._parts:
            if name in self._delays_ns:
                self._parts[name] = _Part(self._delays_ns[name], MOST_KEYS)
            elif name in self._declared or self._others() < MOST_PARTS:
                self._parts[name] = _Part(0, MOST_OTHER_KEYS)
        return self._parts.get(name)

    def _others(self) -> int:
        """How many parts there are that are not always counted."""
        return len(self._parts.keys() - self._delays_ns.keys() - self._declared)


def part_of(outcome: str) -> str:
    """The part of the feedback that an outcome comes from: a business metric's name, `reward`, or the output whose
    truth it is (empty for the main one).
    """
    if outcome == "reward" or outcome.startswith(METRICS_PREFIX):
        return outcome
    return outcome.rpartition(".")[0]


@lru_cache(1024)
def by_part(outcomes: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The names of outcomes by the part of the feedback that they come from."""
    found: dict[str, tuple[str, ...]] = {}
    for name in outcomes:
        part = part_of(name)
        found[part] = (*found.get(part, ()), name)
    return tuple(found.items())


def _is_mismatch(counts: Mapping[tuple[float, bool], int]) -> bool:
    return reached(log_harm(counts, MISMATCH_RATIOS), MISMATCH_ALPHA)


def _likeliest_ratio(counts: Mapping[tuple[float, bool], int]) -> float:
    """The ratio of rates at which the candidate's share of the counts is expected as it is."""
    candidates = sum(number for (_, candidate), number in counts.items() if candidate)

    def expected(ratio: float) -> float:
        return sum(number * chance * ratio / (1 + chance * (ratio - 1)) for (chance, _), number in counts.items())

    low, high = 1 / LARGEST_RATIO, LARGEST_RATIO
    for _ in range(50):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if expected(middle) < candidates else (low, middle)
    return low
