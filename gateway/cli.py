"""The command `gateway`. Exit codes: 0 done, 1 refused or failed (reason on stderr), 2 wrong usage."""

import logging
from pathlib import Path
from typing import Any

import click
import httpx
import orjson
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from gateway import __version__
from gateway.control import Control
from gateway.deployment import releases
from gateway.errors import GatewayError
from gateway.presentation import (
    check_table,
    explanation_json,
    explanation_text,
    release_table,
    status_text,
)
from gateway.routing.attributes import Attributes
from gateway.routing.explanation import explain as explanation_of
from gateway.routing.release import Release
from gateway.serving.repository import Repository
from gateway.serving.scratch import Trial, Verdict, try_versions
from gateway.settings.gateway_settings import GatewaySettings
from gateway.settings.load import load_gateway, load_routing
from gateway.settings.routing_settings import RoutingSettings
from gateway.supervisor import supervise, worker_count

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("config/gateway.yaml"),
    show_default=True,
    help="The server's YAML file; paths in it are relative to the working directory.",
)
REASON = click.option("--reason", default="", help="Why; kept with the decision.")
JSON = click.option("--json", "as_json", is_flag=True, help="For scripts.")


class Refusal(click.ClickException):
    """A reason on stderr, and exit code 1."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        click.echo(self.message, err=True)


class _Commands(click.Group):
    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except GatewayError as error:
            raise Refusal(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """Serve ONNX models, and let a new version meet real traffic without fear."""


@main.command()
@CONFIG
def serve(config: Path) -> None:
    """Load the models and serve them until told to stop."""
    settings, routing = _load(config)
    console = Console(stderr=True)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with _progress(console) as progress:
        progress.add_task(f"starting {worker_count(settings.server)} workers", total=None)

        def ready(control: Control, data_plane: str, control_plane: str) -> None:
            progress.stop()
            console.print(release_table(control.overview(), control.left_out()))
            console.print(f"Serving [bold]{data_plane}/v2[/bold] with {control.fleet.size} workers; stop with Ctrl-C.")
            console.print(f"Control plane at {control_plane}: gateway status, stop, resume.")

        uvloop.run(supervise(settings, routing, ready))


@main.command()
@click.argument("model", required=False)
@CONFIG
@JSON
def status(model: str | None, config: Path, as_json: bool) -> None:
    """Say what each release does now: weights, stops, and how both versions fare."""
    releases = _ask(config, "GET", f"/api/releases/{model}" if model else "/api/releases")
    if as_json:
        click.echo(orjson.dumps(releases))
        return
    for release in releases if isinstance(releases, list) else [releases]:
        Console().print(status_text(release))
    error = _ask(config, "GET", "/api/config")["last_error"]
    if error:
        Console().print(f"[red]The last edit is not in force:[/red] {escape(error)}")


@main.command()
@click.argument("model")
@CONFIG
@REASON
@JSON
def stop(model: str, config: Path, reason: str, as_json: bool) -> None:
    """Stop all traffic to the model's candidate, at once and until it is resumed."""
    decision = _ask(config, "POST", f"/api/releases/{model}/stop", reason)
    click.echo(orjson.dumps(decision) if as_json else f"version {decision['candidate']} of {model} is stopped")


@main.command()
@click.argument("model")
@CONFIG
@REASON
@JSON
def resume(model: str, config: Path, reason: str, as_json: bool) -> None:
    """Send traffic to the model's candidate again, as the routing says."""
    decision = _ask(config, "POST", f"/api/releases/{model}/resume", reason)
    click.echo(orjson.dumps(decision) if as_json else f"version {decision['candidate']} of {model} gets traffic again")


def _ask(config: Path, method: str, path: str, reason: str | None = None) -> Any:
    """What the control plane of the running gateway answers; refuses with its reason."""
    control = load_gateway(config).control
    host = f"[{control.host}]" if ":" in control.host else control.host
    url = f"http://{host}:{control.port}"
    try:
        answer = httpx.request(method, url + path, json=None if reason is None else {"reason": reason}, timeout=10)
    except httpx.TransportError as error:
        raise Refusal(f"no gateway answers at {url} ({error}); is `gateway serve` running?") from None
    document = answer.json()
    if answer.status_code != 200:
        raise Refusal(document["error"])
    return document


@main.command()
@CONFIG
@JSON
def check(config: Path, as_json: bool) -> None:
    """Validate both YAML files, and load every model in a scratch process."""
    settings, routing = _load(config)
    repository = Repository(Path(settings.models.path))
    trials = [
        Trial(name, version, release.stable)
        for name, release in sorted(releases(repository, routing).items())
        for version in (release.stable, release.candidate)
        if version is not None
    ]
    verdicts: list[Verdict] = []
    with _progress(Console(stderr=True)) as progress:
        for verdict in progress.track(try_versions(repository.path, trials), len(trials), description="loading models"):
            verdicts.append(verdict)
    _report(verdicts, as_json)


def _progress(console: Console) -> Progress:
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _report(verdicts: list[Verdict], as_json: bool) -> None:
    if as_json:
        rows = [
            {"model": verdict.trial.name, "version": verdict.trial.version, "error": verdict.error or None}
            for verdict in verdicts
        ]
        click.echo(orjson.dumps({"ok": not any(verdict.error for verdict in verdicts), "versions": rows}))
    else:
        Console().print(check_table(verdicts))
    broken = [
        f"models.{verdict.trial.name}: version {verdict.trial.version}: {verdict.error}"
        for verdict in verdicts
        if verdict.error
    ]
    if broken:
        raise Refusal("\n".join(broken))


@main.command()
@click.argument("model")
@CONFIG
@click.option("--customer", help="Who asks.")
@click.option("--modality", help="image, tabular, text …; without it the model's own.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A request header; may be repeated.")
@click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A request parameter; may be repeated."
)
@click.option("--key", help="The prediction's own key, which decides where the sticky one is missing.")
@JSON
def explain(
    model: str,
    config: Path,
    customer: str | None,
    modality: str | None,
    headers: tuple[str, ...],
    parameters: tuple[str, ...],
    key: str | None,
    as_json: bool,
) -> None:
    """Say which version answers such a request, by which route, and why."""
    settings, routing = _load(config)
    repository = Repository(Path(settings.models.path))
    known = releases(repository, routing)
    if model not in known:
        raise Refusal(f"there is no model '{model}'; there are {', '.join(sorted(known))}")
    release = Release(model, known[model])
    attributes = Attributes(
        customer,
        modality or repository.settings(model).modality,
        {name.lower(): value for name, value in _pairs(headers, "--header")},
        dict(_pairs(parameters, "--parameter")),
    )
    explanation = explanation_of(release, attributes, key)
    click.echo(explanation_json(model, explanation) if as_json else explanation_text(model, explanation))


def _pairs(options: tuple[str, ...], name: str) -> list[tuple[str, str]]:
    pairs = [option.partition("=") for option in options]
    if any(not equals for _, equals, _ in pairs):
        raise click.UsageError(f"{name} takes NAME=VALUE")
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _load(config: Path) -> tuple[GatewaySettings, RoutingSettings]:
    settings = load_gateway(config)
    return settings, load_routing(Path(settings.routing))
