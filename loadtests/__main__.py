"""`python -m loadtests SCENARIO`: exit code 1 when a target is missed."""

import importlib
import inspect
import pkgutil
import sys
import tempfile
from pathlib import Path

import click

from loadtests import scenarios

NAMES = sorted(module.name for module in pkgutil.iter_modules(scenarios.__path__))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("scenario", type=click.Choice(NAMES), required=False)
@click.option(
    "--rounds", type=click.IntRange(1, 50), default=5, show_default=True, help="Both sides are measured in each."
)
@click.option("--seconds", type=click.IntRange(1, 60), default=4, show_default=True, help="Length of one measurement.")
@click.option("--workers", type=click.IntRange(1, 256), help="Of the gateway, for `balance` and `gpu`.")
@click.option("--provider", type=click.Choice(["CUDA", "CPU"]), help="What `gpu` runs on.  [default: CUDA]")
@click.option("--runs", type=click.IntRange(1), help="Of `fleet_simulation`.  [default: 100000]")
@click.option("--seed", type=click.IntRange(0), help="The first of `fleet_simulation`.  [default: 0]")
@click.option("--states", type=click.IntRange(1), help="At most, of each small fleet.  [default: 1000000]")
@click.option("--store", type=click.Choice(["redis", "etcd"]), help="Of `fleet`.  [default: redis]")
@click.option(
    "--checkout",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Other side of `before` and `upgrade`.",
)
@click.option("--report-only", is_flag=True, help="A missed target is no failure.")
def main(scenario: str | None, rounds: int, seconds: int, report_only: bool, **more: int | str | Path | None) -> None:
    """Measure one scenario; without a name, list them."""
    if scenario is None:
        for name in NAMES:
            module = importlib.import_module(f"loadtests.scenarios.{name}")
            click.echo(f"{name:16} {(module.__doc__ or '').splitlines()[0]}")
        return
    module = importlib.import_module(f"loadtests.scenarios.{scenario}")
    given = {name: value for name, value in more.items() if value is not None}
    unknown = given.keys() - inspect.signature(module.run).parameters
    if unknown:
        raise click.UsageError(f"{scenario} has no --{min(unknown)}")
    with tempfile.TemporaryDirectory() as folder:
        met = module.run(Path(folder), rounds, seconds, **given)
    sys.exit(0 if met or report_only else 1)


main()
