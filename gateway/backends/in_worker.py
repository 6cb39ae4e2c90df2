"""Makes versions that run in the worker: a stable version on the event loop if its runs are short, else in threads."""

from gateway.backends.batcher import Batcher
from gateway.backends.loaded_version import LoadedVersion
from gateway.backends.output_checks import Run, Stopped, checked, mark_underway
from gateway.backends.run_threads import RunThreads
from gateway.backends.slow_runs import SlowRunDetector
from gateway.backends.version import ModelVersion
from gateway.shm.tally import Tally


def in_worker(
    name: str,
    number: int,
    loaded: LoadedVersion,
    tally: Tally,
    stopped: Stopped | None = None,
    compared: bool = False,
    baseline: ModelVersion | None = None,
) -> ModelVersion:
    """Make a version that runs in this process and counts on `tally`.

    A stable version whose runs are short runs on the event loop, unless it is `compared` by its latencies: a
    candidate's threads wait for cores and for the interpreter when both are busy, so stable must run in threads too if
    their latencies are evidence. `stopped`: None for stable; for a candidate, called before each run. Raises
    ModelUnavailable if its threads cannot be started.
    """
    stable = stopped is None
    on_loop = stable and not compared and not loaded.loop_limits.off_loop_reason
    threads = RunThreads(loaded.rules.concurrency, f"{name}-{number}")
    if not on_loop:
        threads.start()  # before requests depend on them; on the loop, few are ever needed
    run: Run = loaded.runner.run
    if stopped is not None:
        run = candidate_run(loaded, number, stopped)
        run = mark_underway(run, tally.underway())
    backend = batcher(f"version {number} of '{name}'", loaded, run, tally, threads, on_loop=on_loop, trusted=stable)
    version = ModelVersion(
        name, number, loaded, backend, tally, stable=stable, latency_compared=compared, baseline=baseline
    )
    if baseline is not None:
        # both measure how long stable takes
        baseline.recent_latency, baseline.record_latency = version.recent_latency, version.record_latency
    return version


def batcher(
    label: str, loaded: LoadedVersion, run: Run, tally: Tally, threads: RunThreads, *, on_loop: bool, trusted: bool
) -> Batcher:
    """The batcher of a version. `on_loop`: short runs are executed on the event loop, as long as they prove short;
    `trusted`: see Batcher. `label` names the version in the log.
    """
    uniform = is_uniform(loaded)
    inputs = len(loaded.signature.inputs) if loaded.signature.initializers else None
    threaded = Batcher(
        run, loaded.rules, tally, threads, uniform, trusted=trusted, inputs=inputs, join=loaded.runner.join
    )
    if not on_loop:
        return threaded
    detector = SlowRunDetector(label, run, loaded.settings.threads)
    return Batcher(
        run,
        loaded.rules,
        tally,
        None,
        uniform,
        limits=loaded.loop_limits,
        threaded=threaded,
        detector=detector,
        inputs=inputs,
    )


def candidate_run(loaded: LoadedVersion, number: int, stopped: Stopped) -> Run:
    """The version's run with the checks of a candidate's answers; see `output_checks.checked`."""
    row_for_row = not loaded.warm_up.unbatchable_reason
    return checked(loaded.runner.run, loaded.signature.outputs, number, stopped, row_for_row=row_for_row)


def is_uniform(loaded: LoadedVersion) -> bool:
    """Whether all dimensions but the first are fixed, so that any two requests may share a batch."""
    return all(-1 not in spec.shape[1:] and spec.datatype != "BYTES" for spec in loaded.signature.inputs)
