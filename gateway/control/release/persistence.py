"""Dumps and loads a controller's state as plain JSON, across gateway restarts and edits of the routing file."""

import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.control.guards.comparisons import FAILURES
from gateway.control.release.controller import Controller
from gateway.control.release.stages import Event, ReleaseState, Stage
from gateway.settings.guards import GuardsSettings
from gateway.settings.metric_names import DRIFTS, SLOW_REQUESTS, WRONG_FEEDBACK
from gateway.settings.routing import ReleaseSettings, SplitSettings
from gateway.system.durable_files import replace_durably
from gateway.version_key import VersionKey

STATES_FILE: Final = "ramps.json"  # in the state folder
COMPARED: Final = "failures_compared"
RAMP_STAGES = (Stage.RAMPING, Stage.PAUSED, Stage.HELD)
log: Final = logging.getLogger("gateway.control.release")


def dump(controller: Controller, now_s: float) -> dict[str, Any]:
    """Return the controller's state for `load`. Its size grows by some 3 bytes for each sticky key that has failed, and
    by 4 to 8 for each that has given an outcome, of each metric.
    """
    return {
        **_fingerprint(controller.settings),
        "weight_ppm": controller.ramp.weights_ppm[controller.state.step] if controller.ramp else 0,
        "place": controller.state.to_json(now_s),
        "guards": controller.guards.to_json(),
    }


def load(
    settings: ReleaseSettings, memory: Mapping[str, Any], now_s: float, declared: frozenset[str] = frozenset()
) -> Controller:
    """Return a controller that continues from `memory`, as far as `settings` still describe the same release.
    `declared`: as for Controller.

    Other versions: everything starts over. Other salt or stickiness: other customers get the candidate, so counts and
    known keys are dropped and the evidence restarts. Other comparisons: the evidence restarts. Another threshold: what
    was slow is dropped. Failures compared only now, or no longer: those known are dropped. Other ramp: continue from
    the last step that does not raise the weight. Other routes: the counts of predicted classes are dropped.

    Damage raises some exception, here rather than where the state is shown or written.
    """
    controller = Controller(settings, declared)
    said = _fingerprint(settings)
    if memory["versions"] != said["versions"] or not memory["place"]["restart"]:
        return controller  # another release, or one that has never had a tick
    place = controller.state = ReleaseState.from_json(memory["place"], now_s)
    guards = dict(memory["guards"]) if memory["split"] == said["split"] else {}
    if memory["routes"] != said["routes"]:
        for drift in DRIFTS:
            guards.pop(drift, None)
    if _threshold(memory) != _threshold(said):
        guards.pop(SLOW_REQUESTS, None)
    # before or from now on they are counted for the candidate rather than for both
    if not (said[COMPARED] and memory.get(COMPARED, _compares_failures(memory))):
        guards.pop(FAILURES.metric, None)
    controller.dropped = controller.guards.restore(guards)
    if any(memory[key] != said[key] for key in ("split", "comparisons")):
        place.restart += 1
        controller.guards.restart()
    elif controller.dropped or "process" not in guards.get(WRONG_FEEDBACK, {"process": None}):
        place.restart += 1  # alpha has been spent on what an earlier gateway kept, and is dropped
    _resume_step(controller, memory, now_s)
    _drop_removed_guard(controller, now_s)
    controller.assessment()
    controller.guards.effects()
    orjson.dumps(dump(controller, now_s))
    return controller


def _fingerprint(settings: ReleaseSettings) -> dict[str, Any]:
    split, guards = settings.split or SplitSettings(), settings.guards or GuardsSettings()
    return {
        "versions": [settings.stable, settings.candidate],
        "split": [split.salt, split.stickiness],
        "routes": [route.name for route in split.routes],
        "comparisons": [guards.alpha, *(comparison.model_dump(mode="json") for comparison in guards.comparisons)],
        "ramp": list(settings.ramp.weights_ppm) if settings.ramp else [],
        COMPARED: settings.failures_compared,
    }


def _compares_failures(memory: Mapping[str, Any]) -> bool:
    """Whether a guard did, in the memory of an earlier gateway: that did not compare them for a ramp alone."""
    return any(one["metric"] == FAILURES.metric for one in memory["comparisons"][1:])


def _threshold(memory: Mapping[str, Any]) -> Any:
    """Beyond which a request was slow; None if that was not asked."""
    compared = memory["comparisons"][1:]  # after alpha
    return next((one["threshold"] for one in compared if one["metric"] == SLOW_REQUESTS), None)


def _resume_step(controller: Controller, memory: Mapping[str, Any], now_s: float) -> None:
    place, ramp = controller.state, controller.ramp
    if ramp is None:
        place.step = 0
        place.stage = Stage.IDLE if place.stage in RAMP_STAGES else place.stage
        return
    weights = ramp.weights_ppm
    place.step = max((step for step, weight in enumerate(weights) if weight <= memory["weight_ppm"]), default=0)
    extended = place.stage is Stage.COMPLETE and memory["ramp"] != list(weights)
    if place.stage is Stage.IDLE or (extended and place.step + 1 < len(weights)):
        place.stage, place.step_started_s = Stage.RAMPING, now_s


def _drop_removed_guard(controller: Controller, now_s: float) -> None:
    """End the pause if the guard that caused it is no longer configured."""
    guards = controller.settings.guards or GuardsSettings()
    names = {limit.name for limit in guards.limits} | {comparison.name for comparison in guards.comparisons}
    if controller.state.stage is Stage.PAUSED and controller.state.paused_by not in names:
        controller.state.apply(Event.CONTINUE)
        controller.state.step_started_s = now_s


def read_states(file: Path) -> dict[str, dict[str, Any]]:
    """Read the saved states of all controllers; none if the file is missing or damaged: ramps then start over."""
    try:
        document = orjson.loads(file.read_bytes())
        if not isinstance(document, dict):
            raise ValueError(f"it must hold an object, not {type(document).__name__}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.error("%s is damaged; all ramps start anew at their first weight: %s", file, error)
        return {}
    return {name: one for name, one in document.items() if isinstance(one, dict)}


def forget_states(file: Path, versions: AbstractSet[VersionKey]) -> None:
    """Let the evidence and ramps of the saved releases with one of these versions start over; one that is held or
    paused stays so, at its first weight. Raises OSError if that cannot be written.
    """
    states = read_states(file) if versions else {}
    concerned = [name for name, one in states.items() if _concerns(name, one, versions)]
    for name in concerned:
        saved = states.pop(name)
        if saved.get("place", {}).get("stage") in (Stage.HELD, Stage.PAUSED):
            states[name] = {**saved, "weight_ppm": 0, "guards": {}, "comparisons": []}  # no evidence counts for others
    if concerned:
        replace_durably(file, orjson.dumps(states))


def _concerns(model: str, saved: Mapping[str, Any], versions: AbstractSet[VersionKey]) -> bool:
    return any((model, number) in versions for number in saved.get("versions") or ())
