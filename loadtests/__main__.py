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
@click.option("--workers", type=click.IntRange(2, 256), help="Of the gateway, for `balance`.  [default: the cores]")
@click.option("--report-only", is_flag=True, help="A missed target is no failure.")
def main(scenario: str | None, rounds: int, seconds: int, workers: int | None, report_only: bool) -> None:
    """Measure one scenario; without a name, list them."""
    if scenario is None:
        for name in NAMES:
            module = importlib.import_module(f"loadtests.scenarios.{name}")
            click.echo(f"{name:10} {(module.__doc__ or '').splitlines()[0]}")
        return
    module = importlib.import_module(f"loadtests.scenarios.{scenario}")
    if workers and "workers" not in inspect.signature(module.run).parameters:
        raise click.UsageError(f"{scenario} has its own number of workers")
    with tempfile.TemporaryDirectory() as folder:
        more = {"workers": workers} if workers else {}
        met = module.run(Path(folder), rounds, seconds, **more)
    sys.exit(0 if met or report_only else 1)


main()
