"""What is known of the candidate's effect on each metric, for documents and decision records: "is it better?"."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.control.release.effect_document import EffectDocument
from gateway.evidence.effect import Effect, EffectVerdict
from gateway.records.measures import MeasureName, measure_names

EFFECTS: Final = "effects"  # in the evidence of decisions
HIGHER_IS_BETTER: Final = {"decrease": True, "increase": False}  # by the change that is harm
LEFT_OUT: Final = frozenset({"complaints"})  # only who complains gives feedback


def effect_documents(effects: Iterable[Effect]) -> list[EffectDocument]:
    """Return the effects in the terms of the measures: first on all traffic, then by route."""
    by_route: dict[str | None, dict[str, Effect]] = {None: {}}
    for one in effects:
        by_route.setdefault(one.route, {})[one.outcome] = one
    return [
        _document(found[outcome], shown)
        for found in by_route.values()
        for outcome, shown in measure_names({name: _seen(one) for name, one in found.items()}).items()
        if shown.kind not in LEFT_OUT
    ]


def known_record(effects: Sequence[Effect]) -> dict[str, Any]:
    """Return what a decision's record keeps: all effects on all traffic, and of the routes those that are certain.

    Empty without effects.
    """
    kept = [one for one in effects if one.route is None or one.verdict is not EffectVerdict.UNKNOWN]
    return {EFFECTS: effect_documents(kept)} if kept else {}


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
        "words": "; ".join(filter(None, (effect.verdict_words, effect.feedback_words))),
        "effect": effect.effect,
        "low": effect.low,
        "high": effect.high,
        "level": 1 - effect.alpha,
        "asymptotic": effect.asymptotic,
        "candidate": effect.candidate_mean,
        "stable": effect.stable_mean,
        "candidate_units": effect.candidate_units,
        "stable_units": effect.stable_units,
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
