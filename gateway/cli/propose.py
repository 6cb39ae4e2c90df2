"""The command `gateway propose`: sends a version to the running gateway, which makes it the candidate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from gateway.cli.control_client import ControlAddress, send_to_control
from gateway.cli.options import JSON, REASON, control_options, progress_bar
from gateway.cli.proposed_version import proposed_version, version_place
from gateway.cli.version_archive import ARCHIVE_TYPE, VersionArchive
from gateway.settings.gateway import GatewaySettings
from gateway.settings.load import load_gateway


@click.command()
@click.argument("model")
@click.argument("place", type=version_place, metavar="PATH|VERSION")
@control_options
@click.option("--version", type=click.IntRange(1), help="The version's number; by default the next free one.")
@click.option("--weight", type=click.FloatRange(0, 100), help="The weight of the route `everyone`, in percent.")
@click.option("--ramp", is_flag=True, help="Let the route `everyone` follow the release's ramp.")
@click.option("--replace", is_flag=True, help="Also if another candidate is under way.")
@click.option("--sha256", metavar="HEX", help="The hash that a download must have.")
@click.option(
    "--registry",
    metavar="URL",
    help="The MLflow server; default: that of --config, else $MLFLOW_TRACKING_URI.",
)
@REASON
@JSON
def propose(
    model: str,
    place: Path | str | int,
    control: ControlAddress,
    version: int | None,
    weight: float | None,
    ramp: bool,
    replace: bool,
    sha256: str | None,
    registry: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Make a trained version the candidate.

    PATH is a folder with model.onnx and what belongs to it, or a model.onnx; the http(s) address of a model.onnx, or of
    a .tar or .tar.gz of a folder (an Authorization header is read from $GATEWAY_DOWNLOAD_AUTHORIZATION); or a version
    of MLflow's registry, as models:/NAME@ALIAS or models:/NAME/VERSION. VERSION is the number of one whose folder is in
    the model repository already, copied there by other means: nothing is sent, and nothing removed if it is refused. A
    path that is a number is written ./3.

    What is at PATH is copied into the model repository, and nothing of it is left if it is refused. The version is
    loaded as a trial, and named as the candidate in the routing file. All routes of the release apply to it, those for
    some customers too; --weight and --ramp change that of `everyone` alone, and what each route gives it is shown at
    the end. If the release has no routes, the candidate gets no traffic yet.
    """
    if ramp and weight is not None:
        raise click.UsageError("--ramp sets the weight itself; leave --weight out")
    asked = {"version": version, "ramp": ramp or None, "replace": replace or None}
    given = {name: orjson.dumps(value).decode() for name, value in asked.items() if value}
    if weight is not None:
        given["weight"] = f"{weight:.4f}"
    path = f"/api/releases/{model}/propose"
    if isinstance(place, int):
        if version is not None or sha256 is not None:
            raise click.UsageError("--version and --sha256 are for a version that is not in the repository yet")
        given |= {"version": f"{place}"} | ({"reason": reason} if reason else {})
        accepted = send_to_control(control, path, params=given)
        click.echo(orjson.dumps(accepted) if as_json else _said(accepted))
        return
    settings = GatewaySettings() if control.url else load_gateway(control.config)
    with proposed_version(place, settings, sha256=sha256, registry=registry) as found:
        archive = VersionArchive(found.path)
        if reason or found.origin:
            given["reason"] = reason or f"from {found.origin}"
        headers = {"content-type": ARCHIVE_TYPE, "content-length": str(len(archive))}
        accepted = send_to_control(control, path, params=given, headers=headers, content=_shown(archive))
    click.echo(orjson.dumps(accepted) if as_json else _said(accepted))


def _shown(archive: VersionArchive) -> Iterator[bytes]:
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task("sending", total=len(archive))
        for chunk in archive.chunks():
            yield chunk
            progress.advance(task, len(chunk))
        progress.update(task, description="sent; it is being tried", total=None)


def _said(accepted: Any) -> str:
    size = f"{accepted['files']} files, {accepted['bytes'] / 2**20:.1f} MiB"
    return "\n".join(
        [
            accepted["difference"].rstrip(),
            f"version {accepted['version']} of {accepted['model']} ({size}) is the candidate",
            *accepted["notes"],
        ]
    )
