"""The command `gateway`. Exit codes: 0 done, 1 refused or failed (reason on stderr), 2 wrong usage."""

from typing import Final

import click

from gateway import __version__
from gateway.commands.analyze import analyze
from gateway.commands.edits import promote, weight
from gateway.commands.explain import explain
from gateway.commands.export import export
from gateway.commands.history import history
from gateway.commands.keys import keys
from gateway.commands.options import Refusal
from gateway.commands.releases import go_on, hold, resume, status, stop
from gateway.commands.replay import replay
from gateway.commands.serving import check, serve
from gateway.errors import GatewayError

COMMANDS: Final = (
    serve,
    check,
    explain,
    status,
    stop,
    resume,
    hold,
    go_on,
    promote,
    weight,
    history,
    export,
    analyze,
    replay,
    keys,
)


class _Commands(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)  # as they are needed, not by the alphabet

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except GatewayError as error:
            raise Refusal(str(error)) from None


@click.group(cls=_Commands, commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """Serve ONNX models, and let a new version meet real traffic without fear."""
