"""The effect of the candidate on each outcome, over the whole release and by route: what answers "is it better?"."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.control.guards.outcomes import NewUnits, Outcomes
from gateway.evidence.differences import Units
from gateway.evidence.effect import Effect, effect_of
from gateway.evidence.intervals import EffectSums
from gateway.settings.guards import ComparisonSettings
from gateway.settings.metric_names import METRICS_PREFIX, OUTCOMES, SHARES, WORSE_IF_HIGHER, WORSE_IF_LOWER

MOST_OUTCOMES: Final = 32  # beside those compared, declared, and of the main truth, those that came first
ALWAYS: Final = frozenset({"wrong", "reward", *OUTCOMES})
MOST_ROUTES: Final = 20  # of each outcome, those that came first
ADDED_EVERY_NS: Final = 10**9  # many small additions would cost much; what is not added is lost with the process
MOST_BUFFERED: Final = 2000


@dataclass(slots=True)
class _Sums:
    """Those of each sticky key's first outcome, and of the outcomes that thinning leaves (see `Outcomes`): None as long
    as they are the same.
    """

    first: EffectSums
    thinned: EffectSums | None = None

    def add(self, first: Units, thinned: Units | None) -> None:
        """`thinned`: None if it is the same outcomes."""
        if self.thinned is None and thinned is not None:
            self.thinned = replace(self.first, expected=dict(self.first.expected))
        self.first.add(first)
        if self.thinned is not None:
            self.thinned.add(first if thinned is None else thinned)

    @classmethod
    def from_json(cls, scale: tuple[float, float] | None, first: Any, thinned: Any) -> "_Sums":
        return cls(
            EffectSums.from_json(scale, first), None if thinned is None else EffectSums.from_json(scale, thinned)
        )


class Effects:
    """The effects in one epoch. `comparisons` say the ranges, the directions and what is tolerated. `routes`: how many
    the release has, each of which is a question of its own from the start. `declared`: outcomes that always count.
    """

    def __init__(
        self, comparisons: Iterable[ComparisonSettings], routes: int = 1, declared: frozenset[str] = frozenset()
    ) -> None:
        self._routes = routes
        self._compared = {one.outcome: one for one in comparisons if one.outcome}
        self._always = ALWAYS | declared | self._compared.keys()
        self._sums: dict[str, dict[str | None, _Sums]] = {}
        self._new: dict[str, NewUnits] = {}
        self._added_ns = 0

    def add(self, new: Mapping[str, NewUnits], time_ns: int) -> None:
        """Take in new units by the outcome's name."""
        for name, added in new.items():
            self._new.setdefault(name, NewUnits()).add(added)
        full = any(len(one.values) > MOST_BUFFERED for one in self._new.values())
        if self._new and (full or not 0 <= time_ns - self._added_ns < ADDED_EVERY_NS):
            self._added_ns = time_ns
            self._flush()

    def read(self, outcomes: Outcomes) -> tuple[Effect, ...]:
        """Return the effects: of each outcome over the whole release, then on each of its routes if there are several.
        Those that always count come first.

        `outcomes`: from which they have come. What came in the last second is not in them yet: a stop is not to wait
        for its addition.
        """
        return tuple(
            effect_of(
                sums.first,
                name,
                route,
                thinned=sums.thinned,
                harm=self._harm(name),
                tolerance=self._compared[name].tolerance or 0.0 if name in self._compared else 0.0,
                slices=1 if route is None else max(self._routes, len(routes) - 1),
                feedback_ratio=outcomes.feedback_ratio(name) if route is None else None,
                feedback_share=outcomes.feedback_share(name) if route is None else None,
                not_counted=outcomes.limits_reached(name) if route is None else "",
            )
            for name in sorted(self._sums, key=lambda one: one not in self._always)
            for routes in (self._sums[name],)
            for route, sums in routes.items()
            if route is None or len(routes) > 2
        )

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The names of the outcomes that have come, as `read` knows them."""
        return tuple(self._sums)

    def reset(self) -> None:
        """Start over, for a new epoch."""
        self._sums, self._new = {}, {}

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file, without the units of the last second."""
        return {
            name: {
                "scale": routes[None].first.scale,
                "sums": routes[None].first.to_json(),
                "routes": {route: sums.first.to_json() for route, sums in routes.items() if route is not None},
                "thinned": [[route, sums.thinned.to_json()] for route, sums in routes.items() if sums.thinned],
            }
            for name, routes in self._sums.items()
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Restore the output of `to_json`, for outcomes whose range is still the same."""
        self.reset()
        for name, state in kept.items():
            scale = self._scale(name)
            if scale == (None if state["scale"] is None else tuple(state["scale"])):
                thinned = dict(state.get("thinned", ()))
                self._sums[name] = {
                    route: _Sums.from_json(scale, sums, thinned.get(route))
                    for route, sums in ((None, state["sums"]), *state["routes"].items())
                }

    def _flush(self) -> None:
        taken, self._new = self._new, {}
        for name, new in taken.items():
            if name not in self._sums:
                if name not in self._always and len(self._sums.keys() - self._always) >= MOST_OUTCOMES:
                    continue
                self._sums[name] = {None: _Sums(EffectSums(self._scale(name)))}
            routes = self._sums[name]
            first, thinned = new.first_units, None if new.thinned == new.chances else new.thinned_units
            routes[None].add(first, thinned)
            names = sorted(set(new.routes))
            for route in names:
                if route not in routes and len(routes) > MOST_ROUTES:
                    continue
                sums = routes.setdefault(route, _Sums(EffectSums(routes[None].first.scale)))
                if len(names) == 1:
                    sums.add(first, thinned)
                else:
                    sums.add(_of_route(first, route), None if thinned is None else _of_route(thinned, route))

    def _scale(self, outcome: str) -> tuple[float, float] | None:
        """The lower end and the width of the outcome's range; None if it is unknown."""
        compared = self._compared.get(outcome)
        if compared is not None:
            lowest, highest = compared.bounds
            return lowest, highest - lowest
        last = "" if outcome.startswith(METRICS_PREFIX) else outcome.rpartition(".")[2]
        return (0.0, 1.0) if last in SHARES and last != "loss" else None

    def _harm(self, outcome: str) -> str:
        """Which change of the outcome is harm; empty if nobody has said."""
        if outcome in self._compared:
            return self._compared[outcome].harm
        last = "" if outcome.startswith(METRICS_PREFIX) else outcome.rpartition(".")[2]
        return "decrease" if last in WORSE_IF_LOWER else "increase" if last in WORSE_IF_HIGHER else ""


def _of_route(found: Units, route: str) -> Units:
    assert found.routes is not None
    return found.part(found.routes == route)
