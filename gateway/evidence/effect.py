"""What is known of the candidate's outcomes beside stable's, for people: "is it better?"."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.evidence.intervals import ALPHA, EffectSums

MOST_FORECAST: Final = 10_000_000  # outcomes more; beyond it no number is named


class EffectVerdict(StrEnum):
    """HIGHER and LOWER take the place of BETTER and WORSE where nobody has said which direction is harm."""

    BETTER = "better"
    NO_WORSE = "no worse"
    WORSE = "worse"
    HIGHER = "higher"
    LOWER = "lower"
    UNKNOWN = "not known yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The candidate's mean of one outcome minus stable's, since the epoch began, in the outcome's unit.

    `route`: None for the whole release. `effect`, `low`, `high`: the difference and its interval, which holds at all
    times at once with a chance of 1 - `alpha` (of a route: together with those of the other routes); None if not known
    yet. `asymptotic`: the range of the outcome is unknown, so the interval is only good for many outcomes.
    `candidate_units`, `stable_units`: outcomes, one for each request, or one for each sticky key. `candidate_mean`,
    `stable_mean`: theirs; None without any. `clipped`: outcomes outside of the range. `harm`: `increase`, `decrease` or
    empty if nobody has said which it is. `tolerance`: the harm that is accepted. `more_units`: further outcomes of
    both versions that would tell, if the difference is as it seems; None if it is known, or cannot be said.
    `feedback_ratio`: how many times as often feedback comes for the candidate as for stable, if that is certain.
    """

    outcome: str
    route: str | None
    verdict: EffectVerdict
    effect: float | None
    low: float | None
    high: float | None
    alpha: float
    asymptotic: bool
    candidate_units: int
    stable_units: int
    candidate_mean: float | None
    stable_mean: float | None
    clipped: int
    harm: str
    tolerance: float
    more_units: int | None
    feedback_ratio: float | None = None

    @property
    def words(self) -> str:
        """The verdict as a sentence, with the interval."""
        return ", ".join(filter(None, (self.verdict_words, self._interval_words(), self.feedback_words)))

    @property
    def verdict_words(self) -> str:
        """The verdict, with what is missing if it is not known yet."""
        if self.verdict is EffectVerdict.NO_WORSE:
            return f"no worse than {self.tolerance:g}"
        if self.verdict is not EffectVerdict.UNKNOWN:
            return str(self.verdict)
        if self.low is None:
            return f"{self.verdict}: {self.candidate_units} and {self.stable_units} outcomes, too few to tell"
        more = f"about {self.more_units:,} outcomes more" if self.more_units is not None else "no end in sight"
        return f"{self.verdict}: {more}"

    def _interval_words(self) -> str:
        if self.effect is None or self.low is None or self.high is None:
            return ""
        kind = "for many outcomes, since the range is unknown" if self.asymptotic else "at all times"
        return f"{self.effect:+.4g} ({self.low:+.4g} to {self.high:+.4g}, {1 - self.alpha:.4g} {kind})"

    @property
    def feedback_words(self) -> str:
        """Whether feedback comes as often for both; empty if that is not certain."""
        if self.feedback_ratio is None:
            return ""
        return f"feedback comes {self.feedback_ratio:.3g} times as often for the candidate as for stable"


def effect_of(
    sums: EffectSums,
    outcome: str,
    route: str | None,
    *,
    harm: str = "",
    tolerance: float = 0.0,
    slices: int = 1,
    feedback_ratio: float | None = None,
) -> Effect:
    """Return what the sums say. `slices`: how many routes are looked at together, for each of which alpha is smaller
    (Bonferroni's correction).
    """
    alpha = ALPHA / slices
    interval = sums.interval(alpha)
    low, high = interval if interval is not None else (None, None)
    return Effect(
        outcome=outcome,
        route=route,
        verdict=_verdict(interval, harm, tolerance),
        effect=sums.effect,
        low=low,
        high=high,
        alpha=alpha,
        asymptotic=sums.scale is None,
        candidate_units=sums.candidates,
        stable_units=sums.stables,
        candidate_mean=sums.candidate_sum / sums.candidates if sums.candidates else None,
        stable_mean=sums.stable_sum / sums.stables if sums.stables else None,
        clipped=sums.clipped,
        harm=harm,
        tolerance=tolerance,
        more_units=_more_units(sums, interval, harm, tolerance),
        feedback_ratio=feedback_ratio,
    )


def _verdict(interval: tuple[float, float] | None, harm: str, tolerance: float) -> EffectVerdict:
    if interval is None:
        return EffectVerdict.UNKNOWN
    low, high = interval if harm != "decrease" else (-interval[1], -interval[0])
    if high < 0:
        return EffectVerdict.BETTER if harm else EffectVerdict.LOWER
    if harm and tolerance and high <= tolerance:
        return EffectVerdict.NO_WORSE
    if low > 0:
        return EffectVerdict.WORSE if harm else EffectVerdict.HIGHER
    return EffectVerdict.UNKNOWN


def _more_units(sums: EffectSums, interval: tuple[float, float] | None, harm: str, tolerance: float) -> int | None:
    """An interval narrows with the square root of the outcomes."""
    effect = sums.effect
    if interval is None or effect is None or _verdict(interval, harm, tolerance) is not EffectVerdict.UNKNOWN:
        return None
    radius = (interval[1] - interval[0]) / 2
    harmed = -effect if harm == "decrease" else effect
    apart = max(abs(harmed), tolerance - harmed if tolerance else 0.0)
    if not apart or (more := sums.count * ((radius / apart) ** 2 - 1)) > MOST_FORECAST:
        return None
    return max(round(more), 1)
