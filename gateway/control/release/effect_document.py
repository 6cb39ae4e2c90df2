"""The shape of an effect in JSON documents and in the evidence of decisions."""

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12


class EffectDocument(TypedDict):
    """The candidate's mean of a metric minus stable's, since the epoch began. `metric` and `form` as in measures, but
    for `mse`, the mean squared error. `route`: null for all traffic.

    With the form `ratio` (of `failures`, `slow_requests`, `complaints`, `mirror_disagreement`) it is how much more
    often that comes for the candidate: 0.5 for one and a half times as often, 999 for 1,000 times or more. There are no
    means then; the units are what has come, of a sticky key the first, by route the first on each. What comes to it
    again widens the interval but for a `low` above 0, which is that of first ones: of how many customers, not of how
    many requests. Of a release's routes those are there on which most has come, at most 20.

    `low` to `high` holds the true difference with a chance of `level` at all times at once, null if not known yet;
    `asymptotic`: only for many outcomes, since the metric's range is unknown. `candidate`, `stable`: the means.
    `candidate_units`, `stable_units`: outcomes, one a request or one a sticky key. `verdict`: better, no worse, worse,
    not known yet; or higher and lower, if `higher_is_better` is null. `clipped`: outcomes
    outside of the range. `words`: the verdict, what is missing, what does not count, and for which share of
    both versions' predictions feedback has come, if it comes more often for one.
    """

    metric: str
    label: str
    form: str
    higher_is_better: bool | None
    route: str | None
    verdict: str
    words: str
    effect: float | None
    low: float | None
    high: float | None
    level: float
    asymptotic: bool
    candidate: float | None
    stable: float | None
    candidate_units: int
    stable_units: int
    clipped: int
