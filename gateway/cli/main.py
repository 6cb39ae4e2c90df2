"""The command `gateway`. Exit codes: 0 done, 1 refused or failed (reason on stderr), 2 wrong usage.

A command's module is imported when it is called, so `gateway stop` does not wait for imports that other commands need.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

import click

from gateway import __version__
from gateway.cli.refusal import CommandError
from gateway.errors import GatewayError

COMMANDS: Final[Mapping[str, str]] = {  # in the order of use, not of the alphabet
    "serve": "serve:serve",
    "check": "serve:check",
    "explain": "explain:explain",
    "status": "releases:status",
    "stop": "releases:stop",
    "resume": "releases:resume",
    "hold": "releases:hold",
    "continue": "releases:continue_",
    "propose": "propose:propose",
    "promote": "edits:promote",
    "weight": "edits:weight",
    "history": "releases:history",
    "fleet": "fleet_commands:fleet",
    "trace": "trace:trace",
    "feedback": "feedback:feedback",
    "export": "export:export",
    "analyze": "analyze:analyze",
    "replay": "replay:replay",
    "keys": "keys:keys",
}


class _Commands(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(import_module(f"gateway.cli.{module}"), attribute)
        return command

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except GatewayError as error:
            raise CommandError(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """Serve ONNX models, and release new versions under live traffic."""
