"""The command `gateway explain`, which decides by the files or asks the running gateway."""

from pathlib import Path
from typing import Final

import click
import orjson

from gateway.backends.repository import Repository
from gateway.cli.control_client import ControlAddress, call_control
from gateway.cli.options import CONFIG, JSON, URL, load
from gateway.cli.refusal import CommandError
from gateway.cli.tables import explanation_text
from gateway.control.api.documents import ExplanationDocument, explanation_document
from gateway.routing.attributes import Attributes
from gateway.routing.explanation import explain as explanation_of
from gateway.routing.release import Release

LIVE_WEIGHT_HINT: Final = (
    "the running gateway sets the weight of route {route}, which is 0 in the files; ask with --live"
)


@click.command()
@click.argument("model")
@CONFIG
@URL
@click.option("--customer", help="The customer who sends the request.")
@click.option("--modality", help="image, tabular, text …; default: the model's.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A request header; may be repeated.")
@click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A request parameter; may be repeated."
)
@click.option("--key", help="The key to hash if the request lacks the one that stickiness names.")
@click.option(
    "--live", is_flag=True, help="Ask the running gateway, with its current weights and stops, instead of the files."
)
@JSON
def explain(
    model: str,
    config: Path,
    url: str | None,
    customer: str | None,
    modality: str | None,
    headers: tuple[str, ...],
    parameters: tuple[str, ...],
    key: str | None,
    live: bool,
    as_json: bool,
) -> None:
    """Show which version answers a request, by which route, and why.

    From the files, or with --live or --url from the running gateway.
    """
    named = {name.lower(): value for name, value in _pairs(headers, "--header")}
    given = dict(_pairs(parameters, "--parameter"))
    document: ExplanationDocument
    if live or url is not None:
        question = {"customer": customer, "modality": modality, "headers": named, "parameters": given, "key": key}
        document = call_control(ControlAddress(config, url), "POST", "/api/explain", {"model": model, **question})
    else:
        document = _from_the_files(model, config, Attributes(customer, modality, named, given), key)
    click.echo(orjson.dumps(document) if as_json else explanation_text(document))


def _from_the_files(model: str, config: Path, attributes: Attributes, key: str | None) -> ExplanationDocument:
    settings, resolved = load(config)
    repository = Repository(Path(settings.models.path))
    known = resolved.routing.models
    if model not in known:
        raise CommandError(f"there is no model '{model}'; there are {', '.join(sorted(known))}")
    attributes.modality = attributes.modality or repository.settings(model).modality
    release = Release(model, known[model])
    explanation = explanation_of(release, attributes, key)
    if explanation.route in {release.routes[position].name for position in release.live_routes}:
        click.echo(LIVE_WEIGHT_HINT.format(route=explanation.route), err=True)
    return explanation_document(model, explanation)


def _pairs(options: tuple[str, ...], name: str) -> list[tuple[str, str]]:
    pairs = [option.partition("=") for option in options]
    if any(not equals for _, equals, _ in pairs):
        raise click.UsageError(f"{name} takes NAME=VALUE")
    return [(key.strip(), value.strip()) for key, _, value in pairs]
