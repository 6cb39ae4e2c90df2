"""Loads a model file: opens its session, warms it up, measures it and checks whether it may be batched."""

from dataclasses import dataclass
from pathlib import Path

from gateway.backends.batching_rules import BatchingRules
from gateway.backends.digest import digest_of, missing_weights, refuse_outside
from gateway.backends.graph_nodes import read_graph
from gateway.backends.input_bounds import variable_duration_reason
from gateway.backends.loop_limits import LoopLimits, measure_loop_limits
from gateway.backends.memory_trim import shrink
from gateway.backends.onnx import OnnxSession
from gateway.backends.prediction_kinds import predictions_of
from gateway.backends.runner import Runner, default_concurrency, runner_for
from gateway.backends.shared_measurements import Measurement
from gateway.backends.version_facts import VersionFacts, labels_of
from gateway.backends.warmup import WarmUp, warm_up
from gateway.errors import ModelUnavailable, SettingsError
from gateway.settings.model import ModelSettings
from gateway.settings.providers import CPU


@dataclass(frozen=True, slots=True)
class LoadedVersion(VersionFacts):
    """The facts of a version, its warmed-up session, and what runs batches on it."""

    session: OnnxSession
    runner: Runner


def load_version(file: Path, settings: ModelSettings, sample: Path, known: Measurement | None = None) -> LoadedVersion:
    """Load, warm up and measure one model file. Takes long: call it in a thread.

    `known`: measurements of the same content by another worker; the version is then only warmed up. Raises
    ModelUnavailable that names the file and the reason.
    """
    try:
        session = _opened(file, settings)
        known = known if known is not None and known.providers == session.providers else None
        batching = settings.batching or None
        warm = warm_up(session, sample, batching.max_size if batching else 1, known.warm_up if known else None)
        labels = labels_of(settings, session.signature)
        predictions = predictions_of(settings, session.signature, session.shown, labels)
        sha256 = known.sha256 if known else digest_of(file)
    except (ModelUnavailable, SettingsError) as error:
        raise error if str(file.parent.parent) in str(error) else ModelUnavailable(f"{file}: {error}") from None
    except Exception as error:  # whatever ONNX Runtime raises for a file, the gateway must not end
        raise ModelUnavailable(f"{file}: it cannot be loaded and warmed up: {type(error).__name__}: {error}") from error
    concurrency = settings.concurrency or default_concurrency(session)
    rules = BatchingRules(concurrency=concurrency)
    if batching and warm.rows > 1:
        rules = BatchingRules(warm.rows, batching.max_delay, concurrency)
    runner = runner_for(session, warm, rules)
    limits = known.loop_limits if known else _loop_limits(file, session, warm, sample)
    shrink(session, warm.row)
    return LoadedVersion(
        session.signature, session.shown, session.providers, session.warning, settings, warm, sha256, rules, limits,
        labels, predictions, session, runner,
    )  # fmt: skip


def _loop_limits(file: Path, session: OnnxSession, warm: WarmUp, sample: Path) -> LoopLimits:
    if session.providers != (CPU.name,):
        return LoopLimits(f"it runs on {session.providers[0]}")
    try:
        stretched = variable_duration_reason(
            read_graph(file), session.signature.inputs, session.overridable, has_sample=sample.exists()
        )
    except ModelUnavailable as error:  # ONNX Runtime can read it: it is served, in threads
        return LoopLimits(str(error))
    if stretched:
        return LoopLimits(stretched)
    if not warm.fits_event_loop:
        return LoopLimits(f"a run takes {warm.full_us:,.0f} µs" if warm.row else warm.unbatchable_reason)
    return measure_loop_limits(session, warm.row, warm.rows)


def _opened(file: Path, settings: ModelSettings) -> OnnxSession:
    refuse_outside(file)
    try:
        return OnnxSession(file, settings.threads, settings.providers)
    except ModelUnavailable as error:
        raise missing_weights(file) or error from None
