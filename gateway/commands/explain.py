"""`gateway explain`."""

from pathlib import Path

import click

from gateway.commands.options import CONFIG, JSON, Refusal, load
from gateway.deployment import releases
from gateway.presentation import explanation_json, explanation_text
from gateway.routing.attributes import Attributes
from gateway.routing.explanation import explain as explanation_of
from gateway.routing.release import Release
from gateway.serving.repository import Repository


@click.command()
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
    settings, routing = load(config)
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
