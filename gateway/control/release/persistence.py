"""A controller's memory as plain JSON: kept over a restart of the gateway, and over an edit of the routing file."""

from collections.abc import Mapping
from typing import Any

from gateway.control.release.controller import Controller
from gateway.control.release.stages import Event, ReleaseState, Stage
from gateway.settings.guards import GuardsSettings
from gateway.settings.routing import ReleaseSettings, SplitSettings

ON_THE_RAMP = (Stage.RAMPING, Stage.PAUSED, Stage.HELD)


def dump(controller: Controller, now_s: float) -> dict[str, Any]:
    """The memory. It grows with the number of sticky keys that have failed: some 7 bytes each."""
    return {
        **_fingerprint(controller.settings),
        "weight_ppm": controller.ramp.weights_ppm[controller.place.step] if controller.ramp else 0,
        "place": controller.place.to_json(now_s),
        "guards": controller.guards.to_json(),
    }


def load(settings: ReleaseSettings, memory: Mapping[str, Any], now_s: float) -> Controller:
    """A controller that goes on where another was, as far as `settings` are still the same release.

    Other versions: all begins anew. Other salt or stickiness: other customers meet the candidate, so what is known of
    keys is forgotten. Other comparisons: the evidence starts anew. Another ramp: on from the last step that does not
    raise the weight.
    """
    controller = Controller(settings)
    said = _fingerprint(settings)
    if memory["versions"] != said["versions"] or not memory["place"]["restart"]:
        return controller  # another release, or one that has never seen a tick
    place = controller.place = ReleaseState.from_json(memory["place"], now_s)
    guards = dict(memory["guards"]) if memory["split"] == said["split"] else {}
    if memory["routes"] != said["routes"]:
        guards.pop("predicted_class", None)
    controller.guards.restore(guards)
    if any(memory[key] != said[key] for key in ("split", "comparisons")):
        place.restart += 1
        controller.guards.restart()
    _resume_step(controller, memory, now_s)
    _drop_removed_guard(controller, now_s)
    return controller


def _fingerprint(settings: ReleaseSettings) -> dict[str, Any]:
    split, guards = settings.split or SplitSettings(), settings.guards or GuardsSettings()
    return {
        "versions": [settings.stable, settings.candidate],
        "split": [split.salt, split.stickiness],
        "routes": [route.name for route in split.routes],
        "comparisons": [guards.alpha, *(comparison.model_dump() for comparison in guards.comparisons)],
        "ramp": list(settings.ramp.weights_ppm) if settings.ramp else [],
    }


def _resume_step(controller: Controller, memory: Mapping[str, Any], now_s: float) -> None:
    place, ramp = controller.place, controller.ramp
    if ramp is None:
        place.step = 0
        place.stage = Stage.IDLE if place.stage in ON_THE_RAMP else place.stage
        return
    weights = ramp.weights_ppm
    place.step = max((step for step, weight in enumerate(weights) if weight <= memory["weight_ppm"]), default=0)
    extended = place.stage is Stage.COMPLETE and memory["ramp"] != list(weights)
    if place.stage is Stage.IDLE or (extended and place.step + 1 < len(weights)):
        place.stage, place.step_started_s = Stage.RAMPING, now_s


def _drop_removed_guard(controller: Controller, now_s: float) -> None:
    """A guard that has been taken out of the file holds nothing any more."""
    guards = controller.settings.guards or GuardsSettings()
    names = {limit.name for limit in guards.limits} | {comparison.name for comparison in guards.comparisons}
    if controller.place.stage is Stage.PAUSED and controller.place.paused_by not in names:
        controller.place.move(Event.CONTINUE)
        controller.place.step_started_s = now_s
