"""What is known of the candidate's effect on each metric, for documents and decision records: "is it better?"."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.control.release.effect_document import EffectDocument
from gateway.evidence.effect import Effect, EffectVerdict
from gateway.records.measures import RATIO_NAMES, MeasureName, measure_names

EFFECTS: Final = "effects"  # in the evidence of decisions
HIGHER_IS_BETTER: Final = {"decrease": True, "increase": False}  # by the change that is harm
MOST_OUTCOMES: Final = 32  # on all traffic, in a record
MOST_ON_ROUTES: Final = 16
LEFT_OUT: Final = frozenset({"complaints"})  # only who complains gives feedback
log: Final = logging.getLogger("gateway.control.release")


def effect_documents(effects: Iterable[Effect]) -> list[EffectDocument]:
    """Return the effects on all traffic, then by route: how often failures and their like come, then in the terms of
    the measures.
    """
    by_route: dict[str | None, list[Effect]] = {None: []}
    for one in effects:
        by_route.setdefault(one.route, []).append(one)
    return [document for found in by_route.values() for document in _documents(found)]


def known_record(effects: Sequence[Effect]) -> dict[str, Any]:
    """Return what a decision's record keeps: the effects on all traffic, and of the routes those that are most certain.

    Empty without effects.
    """
    whole = [one for one in effects if one.route is None][:MOST_OUTCOMES]
    certain = [one for one in effects if one.route is not None and one.verdict is not EffectVerdict.UNKNOWN]
    most = set(sorted(certain, key=_certainty, reverse=True)[:MOST_ON_ROUTES])
    kept = [*whole, *(one for one in certain if one in most)]
    return {EFFECTS: effect_documents(kept)} if kept else {}


def record_of(read: Callable[[], Sequence[Effect]]) -> dict[str, Any]:
    """Return the record of what `read` returns, empty if that fails: what is shown to people holds up no decision."""
    try:
        return known_record(read())
    except Exception:
        log.exception("the effects are left out of the record of a decision")
        return {}


def _documents(effects: Sequence[Effect]) -> Iterator[EffectDocument]:
    """The effects on the same traffic."""
    ratios = {one.outcome: one for one in effects if one.is_ratio}
    means = {one.outcome: one for one in effects if not one.is_ratio}
    for outcome, shown in RATIO_NAMES.items():
        if outcome in ratios:
            yield _document(ratios[outcome], shown)
    for outcome, shown in measure_names({name: _seen(one) for name, one in means.items()}).items():
        if shown.kind not in LEFT_OUT:
            yield _document(means[outcome], shown)


def _certainty(effect: Effect) -> float:
    """How many times the interval's half width the effect is; higher is more certain."""
    if effect.effect is None or effect.low is None or effect.high is None:
        return 0.0
    return abs(effect.effect) / max((effect.high - effect.low) / 2, sys.float_info.min)


def _seen(effect: Effect) -> tuple[float | None, ...]:
    """What two outcomes have in common if they are the same."""
    return effect.candidate_units, effect.stable_units, effect.candidate_mean, effect.stable_mean


def _document(effect: Effect, shown: MeasureName) -> EffectDocument:
    if shown.kind == "accuracy":
        effect = _of_right_answers(effect)
    if shown.kind == "rmse":  # the difference is one of squares
        shown = replace(shown, name=f"{shown.name.removesuffix('rmse')}mse", label=shown.label.replace("RMSE", "MSE"))
    return {
        "metric": shown.name,
        "label": shown.label,
        "form": shown.form,
        "higher_is_better": HIGHER_IS_BETTER.get(effect.harm),
        "route": effect.route,
        "verdict": str(effect.verdict),
        "words": "; ".join((effect.verdict_words, *effect.notes)),
        "effect": effect.effect,
        "low": effect.low,
        "high": effect.high,
        "level": 1 - effect.alpha,
        "asymptotic": effect.asymptotic,
        "candidate": effect.candidate_mean,
        "stable": effect.stable_mean,
        "candidate_units": effect.candidate_units,
        "stable_units": effect.stable_units,
        "clipped": effect.clipped,
    }


def _of_right_answers(effect: Effect) -> Effect:
    """The effect on accuracy, from that on the share of wrong answers."""

    def less(value: float | None, whole: float = 0.0) -> float | None:
        return None if value is None else whole - value

    return replace(
        effect,
        effect=less(effect.effect),
        low=less(effect.high),
        high=less(effect.low),
        candidate_mean=less(effect.candidate_mean, 1.0),
        stable_mean=less(effect.stable_mean, 1.0),
        harm="decrease",
    )
