"""What is known of the candidate's outcomes beside stable's, for people: "is it better?"."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from gateway.evidence.intervals import ALPHA, EffectSums

MOST_FORECAST: Final = 10_000_000  # outcomes more; beyond it no number is named
LARGEST_RATIO: Final = 1000.0  # of how often feedback comes; larger ones count as this, and its inverse as the smallest
AGREEING: Final = 1.5  # times: so far the shares of few predictions, drawn at random, are from the ratio by chance


class FeedbackShare(NamedTuple):
    """The shares, from 0 to 1, of the predictions that are at least `age_s` old for which feedback has come."""

    candidate: float
    stable: float
    age_s: float = 0.0

    def tells(self, ratio: float) -> bool:
        """Whether the shares show that feedback comes about `ratio` times as often for the candidate. They may not: a
        step with other weights has predictions of its own age, a sticky customer many, and both begin anew at a gap.
        """
        if not (self.candidate or self.stable):
            return False
        quotient = self.candidate / self.stable if self.stable else LARGEST_RATIO
        found = min(max(quotient, 1 / LARGEST_RATIO), LARGEST_RATIO)
        return (found > 1) == (ratio > 1) and 1 / AGREEING <= found / ratio <= AGREEING


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
    `feedback_ratio`: how many times as often feedback comes for the candidate as for stable, if that is certain;
    `feedback_share`: for which part of their predictions, None if that is not known; it is said if it differs in the
    same direction and about as much. `not_counted`: in words, which outcomes do not count since there is no room for
    them. `counted`: what outcomes are called. `is_ratio`: what is compared is how often it happens, without a mean: the
    effect is the part more, such as 0.5 for one and a half times as often.
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
    feedback_share: FeedbackShare | None = None
    not_counted: str = ""
    counted: str = "outcomes"
    is_ratio: bool = False

    @property
    def words(self) -> str:
        """The verdict as a sentence, with the interval."""
        return ", ".join(filter(None, (self.verdict_words, self._interval_words(), *self.notes)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know beside the verdict: unequal feedback, outcomes outside of the range, those that do not count."""
        found = self.feedback_words, clipped_words(self.clipped, self.candidate_units + self.stable_units)
        return tuple(filter(None, (*found, self.not_counted)))

    @property
    def verdict_words(self) -> str:
        """The verdict, with what is missing if it is not known yet."""
        if self.verdict is EffectVerdict.NO_WORSE:
            return f"no worse than {f'{1 + self.tolerance:g} ×' if self.is_ratio else f'{self.tolerance:g}'}"
        if self.verdict is not EffectVerdict.UNKNOWN:
            return str(self.verdict)
        if self.low is None:
            return f"{self.verdict}: {self.candidate_units} and {self.stable_units} {self.counted}, too few to tell"
        more = f"about {self.more_units:,} {self.counted} more" if self.more_units is not None else "no end in sight"
        return f"{self.verdict}: {more}"

    def _interval_words(self) -> str:
        if self.effect is None or self.low is None or self.high is None:
            return ""
        kind = "for many outcomes, since the range is unknown" if self.asymptotic else "at all times"
        form = "{:.4g} ×" if self.is_ratio else "{:+.4g}"
        effect, low, high = (form.format(one + self.is_ratio) for one in (self.effect, self.low, self.high))
        return f"{effect} ({low} to {high}, {1 - self.alpha:.4g} {kind})"

    @property
    def feedback_words(self) -> str:
        """Whether feedback comes as often for both; empty if that is not certain."""
        if self.feedback_ratio is None:
            return ""
        share = self.feedback_share
        if share is None or not share.tells(self.feedback_ratio):
            return f"feedback comes {self.feedback_ratio:.3g} times as often for the candidate as for stable"
        candidate, stable = (f"{100 * one:.3g}%" for one in (share.candidate, share.stable))
        age = f" at least {share.age_s:g} s old" if share.age_s else ""
        return f"feedback has come for {candidate} of the candidate's and {stable} of stable's predictions{age}"


def effect_of(
    sums: EffectSums,
    outcome: str,
    route: str | None,
    *,
    thinned: EffectSums | None = None,
    harm: str = "",
    tolerance: float = 0.0,
    slices: int = 1,
    feedback_ratio: float | None = None,
    feedback_share: FeedbackShare | None = None,
    not_counted: str = "",
) -> Effect:
    """Return what the sums say. `thinned`: sums over other outcomes of the same versions, for which it must hold, too:
    the interval is from the lower end of both to the upper one. `slices`: how many routes are looked at together, for
    each of which alpha is smaller (Bonferroni's correction).
    """
    alpha = ALPHA / slices
    ways = [(one, one.interval(alpha)) for one in (sums, thinned) if one is not None]
    ends = [ends for _, ends in ways if ends is not None]
    known = len(ends) == len(ways)
    interval = (min(low for low, _ in ends), max(high for _, high in ends)) if known else None
    low, high = interval if interval is not None else (None, None)
    verdict = verdict_of(interval, harm, tolerance)
    return Effect(
        outcome=outcome,
        route=route,
        verdict=verdict,
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
        more_units=_more_units(ways, harm, tolerance) if verdict is EffectVerdict.UNKNOWN else None,
        feedback_ratio=feedback_ratio,
        feedback_share=feedback_share,
        not_counted=not_counted,
    )


def clipped_words(clipped: int, count: int) -> str:
    """How many of the outcomes are outside of the range; empty if none is."""
    return f"{clipped:,} of {count:,} outcomes are beyond the range, and count as its end" if clipped else ""


def verdict_of(interval: tuple[float, float] | None, harm: str, tolerance: float) -> EffectVerdict:
    """Return what the interval of an effect says. `harm`, `tolerance`: as in Effect."""
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


def _more_units(
    ways: Sequence[tuple[EffectSums, tuple[float, float] | None]], harm: str, tolerance: float
) -> int | None:
    """An interval narrows with the square root of the outcomes, and those of all ways must come to say the same."""
    seen = []
    for sums, interval in ways:
        if interval is None or sums.effect is None:
            return None
        seen.append(((interval[1] - interval[0]) / 2, -sums.effect if harm == "decrease" else sums.effect))
    found = [math.inf]
    for sign, least in ((1, 0.0), (-1, 0.0), *(((-1, tolerance),) if tolerance else ())):
        apart = [(radius, least + sign * harmed) for radius, harmed in seen]
        if all(distance > 0 for _, distance in apart):
            found.append(max((radius / distance) ** 2 for radius, distance in apart))
    more = ways[0][0].count * (min(found) - 1)
    return max(round(more), 1) if more <= MOST_FORECAST else None
