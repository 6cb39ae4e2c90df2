"""The command `gateway`. Exit codes: 0 done, 1 refused or failed (reason on stderr), 2 wrong usage."""

from pathlib import Path

import click
import orjson
import uvloop
from rich.console import Console
from rich.progress import Progress

from gateway import __version__
from gateway.deployment import Deployment, releases
from gateway.errors import GatewayError
from gateway.presentation import (
    check_table,
    explanation_json,
    explanation_text,
    release_table,
)
from gateway.routing.attributes import Attributes
from gateway.routing.explanation import explain as explanation_of
from gateway.routing.release import Release
from gateway.serving.repository import Repository
from gateway.serving.scratch import Trial, Verdict, try_versions
from gateway.settings.gateway_settings import GatewaySettings
from gateway.settings.load import load_gateway, load_routing
from gateway.settings.routing_settings import RoutingSettings
from gateway.worker import listen, work

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("config/gateway.yaml"),
    show_default=True,
    help="The server's YAML file; paths in it are relative to the working directory.",
)
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
    listener = listen(settings.server)
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("loading models", total=None)

        def loading(name: str, version: int) -> None:
            progress.update(task, description=f"loading {name} {version}")

        def ready(deployment: Deployment) -> None:
            progress.stop()
            console.print(release_table(deployment))
            host, port = listener.getsockname()[:2]
            console.print(f"Serving [bold]http://{host}:{port}/v2[/bold]; stop with Ctrl-C.")

        uvloop.run(work(settings, routing, listener, loading, ready))


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
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for verdict in progress.track(try_versions(repository.path, trials), len(trials), description="loading models"):
            verdicts.append(verdict)
    _report(verdicts, as_json)


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
