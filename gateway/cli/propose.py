"""The command `gateway propose`: sends a version to the running gateway, which makes it the candidate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console

from gateway.cli.control_client import ControlAddress, send_to_control
from gateway.cli.options import JSON, REASON, control_options, progress_bar
from gateway.cli.version_archive import VersionArchive

ARCHIVE_TYPE: Final = "application/x-tar"


@click.command()
@click.argument("model")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@control_options
@click.option("--version", type=click.IntRange(1), help="The version's number; by default the next free one.")
@click.option("--weight", type=click.FloatRange(0, 100), help="The percentage of all customers who get it.")
@click.option("--ramp", is_flag=True, help="Raise the percentage automatically, by the release's ramp.")
@click.option("--replace", is_flag=True, help="Also if another candidate is under way.")
@REASON
@JSON
def propose(
    model: str,
    path: Path,
    control: ControlAddress,
    version: int | None,
    weight: float | None,
    ramp: bool,
    replace: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Make a trained version the candidate.

    PATH is a folder with model.onnx and what belongs to it, or a model.onnx. It is copied into the model repository,
    loaded as a trial, and named as the candidate in the routing file; if it is refused, nothing of it is left. Without
    --weight or --ramp the release's routes stay as they are; if it has none, the candidate gets no traffic yet.
    """
    if ramp and weight is not None:
        raise click.UsageError("--ramp sets the weight itself; leave --weight out")
    archive = VersionArchive(path)
    asked = {"version": version, "weight": weight, "ramp": ramp or None, "replace": replace or None, "reason": reason}
    given = {
        name: orjson.dumps(value).decode() if name != "reason" else value for name, value in asked.items() if value
    }
    if weight is not None:
        given["weight"] = f"{weight:.4f}"
    headers = {"content-type": ARCHIVE_TYPE, "content-length": str(len(archive))}
    accepted = send_to_control(
        control, f"/api/releases/{model}/propose", params=given, headers=headers, content=_shown(archive)
    )
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
