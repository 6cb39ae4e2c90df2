"""The commands `gateway serve` and `gateway check`."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import orjson
import uvloop
from rich.console import Console

from gateway.auth.tls import Tls
from gateway.backends.inert_guards import inert_guards
from gateway.backends.measurable import Measurables
from gateway.backends.not_served import MODEL_NAME
from gateway.backends.repository import Repository
from gateway.backends.trial import LoadResult, LoadTrial, try_versions
from gateway.cli.options import CONFIG, JSON, load, notes_of, progress_bar
from gateway.cli.refusal import CommandError
from gateway.cli.tables import check_table, prediction_lines, release_table, warning_lines
from gateway.control.control_plane import ControlPlane
from gateway.control.release.forecast import safety_needs
from gateway.control.release.release_status import ReleaseStatus
from gateway.control.supervisor import supervise, worker_count
from gateway.errors import SettingsError
from gateway.logs import configure, log_in_thread
from gateway.settings.extras import check_tracing
from gateway.settings.gateway import GatewaySettings
from gateway.settings.keys import load_keys
from gateway.settings.load import load_gateway
from gateway.settings.routing import RoutingSettings
from gateway.settings.units import LARGEST_VERSION
from gateway.settings.warnings import routing_warnings
from gateway.system.bounded_call import run_bounded

TERMINAL_TIMEOUT_S: Final = 1.0  # a terminal may take nothing, after Ctrl-S
log: Final = logging.getLogger("gateway.cli")


class _ServerConsole(Console):
    def on_broken_pipe(self) -> None:
        """Go on: rich would end the process, which is right only for commands whose output is their purpose."""


def _model_name(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not MODEL_NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r}; names are letters, digits, '_', '-', '.', not beginning with a dot")
    return value


def _with_mounted(settings: GatewaySettings, **given: Any) -> GatewaySettings:
    """The settings with those of models.mounted that are given. Raises SettingsError if nothing is mounted."""
    given = {key: value for key, value in given.items() if value is not None}
    if not given:
        return settings
    if settings.models.mounted is None:
        raise SettingsError("gateway.yaml", ["models.mounted: --model-name and --model-version need it; set its path"])
    mounted = settings.models.mounted.model_copy(update=given)
    return settings.model_copy(update={"models": settings.models.model_copy(update={"mounted": mounted})})


@click.command()
@CONFIG
@click.option("--model-name", callback=_model_name, help="The name of the mounted model, see models.mounted.")
@click.option("--model-version", type=click.IntRange(1, LARGEST_VERSION), help="Its version, unless a folder says it.")
def serve(config: Path, model_name: str | None, model_version: int | None) -> None:
    """Load the models and serve them until SIGTERM or Ctrl-C."""
    settings = _with_mounted(load_gateway(config), name=model_name, version=model_version)
    console = _ServerConsole(stderr=True)
    check_tracing(settings.server)
    configure(settings.server.log, "control")
    progress = progress_bar(console)

    def show_progress() -> None:
        progress.add_task(f"starting {worker_count(settings.server)} workers", total=None)
        progress.start()

    def ready(control: ControlPlane, releases: Sequence[ReleaseStatus], data_plane: str, control_plane: str) -> None:
        run_bounded(progress.stop, TERMINAL_TIMEOUT_S)
        if settings.server.log == "json":
            log.info("serving %s/v2 with %d workers; control plane at %s", data_plane, control.pool.size, control_plane)
            return
        console.print(release_table(releases, control.unavailable()))
        console.print(f"Serving [bold]{data_plane}/v2[/bold] with {control.pool.size} workers; stop with Ctrl-C.")
        console.print(f"Console at {control_plane}; from a terminal: gateway status, stop, resume.")

    try:
        run_bounded(show_progress, TERMINAL_TIMEOUT_S)
        with log_in_thread():
            uvloop.run(supervise(settings, ready))
    finally:
        run_bounded(progress.stop, TERMINAL_TIMEOUT_S)
    os._exit(0)  # does not wait for threads that hang on a disk


@click.command()
@CONFIG
@click.option(
    "--routing",
    "draft",
    type=click.Path(path_type=Path),
    help="Check this routing file instead of the one in use, such as a draft of an edit.",
)
@JSON
def check(config: Path, draft: Path | None, as_json: bool) -> None:
    """Validate both YAML files, and load every version they name.

    Each version is loaded in a process of its own, so that a broken one does no harm. Settings that are valid but have
    no effect, and folders of the repository that are not served, are warnings.
    """
    settings, resolved = load(config, draft)
    repository = Repository(Path(settings.models.path))
    _check_access(settings)
    check_tracing(settings.server)
    passed_over = {(over.name, over.version): f"{repository.path}/{over}" for over in repository.unserved_entries()}
    trials = [
        LoadTrial(name, version, release.stable)
        for name, release in sorted(resolved.routing.models.items())
        for version in (release.stable, release.candidate)
        if version is not None and (name in resolved.configured or (name, str(version)) not in passed_over)
    ]
    verdicts: list[LoadResult] = []
    tried_ones = try_versions(repository.path, trials, settings.models.load_timeout)
    with progress_bar(Console(stderr=True)) as progress:
        for verdict in progress.track(tried_ones, len(trials), description="loading models"):
            verdicts.append(verdict)
    tried = {(trial.name, str(trial.version)) for trial in trials}
    folders = [line for key, line in passed_over.items() if key not in tried]
    routing = resolved.entries()
    warnings = routing_warnings(routing, has_registry=settings.registry is not None)
    notes = [*notes_of(resolved), *_safety_notes(routing)]
    _report(verdicts, [*warnings, *folders], notes, _inert_guards(routing, verdicts), as_json)


def _safety_notes(routing: RoutingSettings) -> list[str]:
    """Return how many failures the ramps need that wait for evidence of safety, those alike in one line."""
    models: dict[str, list[str]] = {}
    for name, release in sorted(routing.models.items()):
        if needs := safety_needs(release):
            models.setdefault(needs, []).append(name)
    return [f"{_listed(names)}: `advance: safe`: {needs}" for needs, names in models.items()]


def _listed(models: Sequence[str]) -> str:
    more = f" and {len(models) - 1:,} more" if len(models) > 1 else ""
    return f"models.{models[0]}.ramp{more}"


def _check_access(settings: GatewaySettings) -> None:
    """Read the keys and certificates; raises SettingsError."""
    if settings.auth.keys:
        load_keys(Path(settings.auth.keys))
    for tls in (settings.server.tls, settings.control.tls):
        if tls:
            Tls(tls)


def _inert_guards(routing: RoutingSettings, verdicts: list[LoadResult]) -> list[str]:
    """Return guards that can never act on these versions' outputs. Nothing is known of a version that does not load."""
    found: dict[str, dict[int, Measurables]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.trial.name, {})[verdict.trial.version] = verdict.measurable
    return [
        problem
        for name, release in sorted(routing.models.items())
        for problem in inert_guards(name, release, found[name])
    ]


def _report(
    verdicts: list[LoadResult], warnings: list[str], notes: list[str], inert_guards: list[str], as_json: bool
) -> None:
    broken = [
        f"models.{verdict.trial.name}: version {verdict.trial.version}: {verdict.error}"
        for verdict in verdicts
        if verdict.error
    ] + inert_guards
    if as_json:
        rows = [
            {
                "model": verdict.trial.name,
                "version": verdict.trial.version,
                "error": verdict.error or None,
                "warning": verdict.warning or None,
                "runs_on": list(verdict.providers),
                "in_threads": verdict.off_loop_reason or None,
                "predicts": [one.described for one in verdict.measurable],
                "not_measured": [one.reason for one in verdict.measurable if one.reason],
            }
            for verdict in verdicts
        ]
        more = {**({"guards": inert_guards} if inert_guards else {}), **({"notes": notes} if notes else {})}
        click.echo(orjson.dumps({"ok": not broken, "versions": rows, "warnings": warnings, **more}))
    else:
        for note in notes:
            click.echo(note, err=True)
        Console().print(check_table(verdicts))
        for predicted in prediction_lines(verdicts):
            click.echo(predicted)
        for verdict in verdicts:
            if verdict.warning:
                click.echo(f"models.{verdict.trial.name}: version {verdict.trial.version}: {verdict.warning}")
        for line in warning_lines(warnings):
            Console().print(line, soft_wrap=True)
    if broken:
        raise CommandError("\n".join(broken))
