"""One release under control: what workers and clients tell of it, gathered until its controller's next step."""

import math
from dataclasses import dataclass, field
from typing import Final

from gateway.metrics.window import Window
from gateway.records.ledger import Heard
from gateway.release.controller import Controller
from gateway.release.observation import ClassCounts, FeedbackEvent, MirrorPair, Observation
from gateway.routing.release import Variant
from gateway.routing.split import BUCKETS
from gateway.settings.routing_settings import ReleaseSettings
from gateway.shm.events import FailureEvent
from gateway.shm.scoreboard import UNSTRATIFIED, Totals

COUNTED_S: Final = 0.09  # between two steps of a release of which only counts have changed: every second tick
IDLE_S: Final = 0.25  # of one that nothing comes to: as often as windows keep their past
RAMP: Final = "ramp"


@dataclass(slots=True)
class Steered:
    """`live`: the routes whose weights are turned, in the order of the board's words."""

    name: str
    settings: ReleaseSettings
    controller: Controller
    window: Window
    slot: int
    live: tuple[str, ...]
    failures: list[FailureEvent] = field(default_factory=list)
    feedback: list[FeedbackEvent] = field(default_factory=list)
    pairs: list[MirrorPair] = field(default_factory=list)
    _looked_s: float = -math.inf
    _state: tuple[int, bool] = 0, False
    _counts: tuple[int, ...] = ()

    @property
    def candidate(self) -> int:
        """Its version."""
        assert self.settings.candidate is not None
        return self.settings.candidate

    def weights_ppm(self) -> list[int]:
        """What the controller wants the live routes' weights to be."""
        routes = {route.name: route for route in self.settings.split.routes} if self.settings.split else {}
        return [self.controller.weight_ppm(routes[name]) for name in self.live]

    def hear(self, heard: Heard) -> None:
        """Feedback on a prediction of the model: evidence, if these two versions made it and chance chose between them.

        Of a mirrored pair both have answered, whatever the weight was: there chance needs no say.
        """
        token = heard.token
        candidate = token.variant is Variant.CANDIDATE
        version = self.candidate if candidate else self.settings.stable
        if token.rescued or token.variant is Variant.PINNED or token.version != version:
            return
        if heard.mirrored_wrong is not None and heard.wrong is not None and not candidate:
            self.pairs.append(MirrorPair(heard.mirrored_wrong, heard.wrong))
        if 0 < token.weight_ppm < BUCKETS:
            key = token.bucket if token.sticky else None
            self.feedback.append(
                FeedbackEvent(heard.time_ns, token.time_ns, token.weight_ppm, candidate, key, heard.wrong, heard.reward)
            )

    def is_due(self, now_s: float, state: tuple[int, bool]) -> bool:
        """Whether to look at the counts: evidence and another `state` (epoch, stopped) are looked at at once."""
        return state != self._state or self._news or now_s - self._looked_s >= COUNTED_S

    def begins(self, now_s: float, state: tuple[int, bool], counts: tuple[int, ...]) -> bool:
        """Whether to take a step now, which is noted: something has come since the last one, or that is long ago."""
        same = state == self._state and counts == self._counts and not self._news
        if same and now_s - self._looked_s < IDLE_S:
            return False
        self._looked_s, self._state, self._counts = now_s, state, counts
        return True

    @property
    def _news(self) -> bool:
        return bool(self.failures or self.feedback or self.pairs)

    def observation(self, time_ns: int, epoch: int, stopped: bool, stable: Totals, candidate: Totals) -> Observation:
        """What its controller is told now. What has been gathered is handed over."""
        failures, feedback, pairs = self.failures, self.feedback, self.pairs
        self.failures, self.feedback, self.pairs = [], [], []
        classes = ClassCounts(candidate.classes[:UNSTRATIFIED], stable.classes[:UNSTRATIFIED])
        return Observation(time_ns, epoch, stopped, self.window, failures, feedback, pairs, classes)


def live_routes(settings: ReleaseSettings) -> tuple[str, ...]:
    """The names of the routes whose weights control turns."""
    routes = settings.split.routes if settings.split else ()
    return tuple(route.name for route in routes if route.weight == RAMP or route.while_)
