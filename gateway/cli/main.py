"""The command `gateway`. Exit codes: 0 done, 1 refused or failed (reason on stderr), 2 wrong usage.

A command's module is imported when it is called, so `gateway stop` does not wait for imports that other commands need.
"""

import contextlib
import errno
import io
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

from gateway import __version__
from gateway.cli.refusal import CommandError
from gateway.errors import GatewayError
from gateway.system.inherited import repair_inherited
from gateway.system.standard_streams import wait_for_readers

NOT_WRITTEN: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF))
NO_TEMPORARY_FOLDER: Final = "No usable temporary directory"  # so says tempfile
SHORTAGES: Final[Mapping[int, str]] = {
    errno.EMFILE: "no more files can be opened; raise the limit of `ulimit -n`",
    errno.ENFILE: "the system can open no more files; raise fs.file-max",
    errno.EAGAIN: "no more processes can be started; raise the limit of `ulimit -u`, or the container's pids limit",
    errno.ENOMEM: "the system has no more memory",
}
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
    def main(self, *arguments: Any, **given: Any) -> Any:
        repair_inherited()
        wait_for_readers()
        _encode_any_character()
        try:
            return super().main(*arguments, **given)
        except OSError as error:
            if (said := _said_of(error)) is None:
                raise
            with contextlib.suppress(OSError):  # it may be stderr that cannot be written
                click.echo(said, err=True)
            sys.exit(1)

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


def _said_of(error: OSError) -> str | None:
    """What the system refused, in a sentence; None if it must be a fault of the program."""
    if error.errno in NOT_WRITTEN and error.filename is None:  # of other files, the commands say it themselves
        return f"the output cannot be written: {error.strerror}"
    if error.errno == errno.ENOENT and (error.strerror or "").startswith(NO_TEMPORARY_FOLDER):
        return f"{error.strerror}; set $TMPDIR to a folder that can be written"
    return SHORTAGES.get(error.errno or 0)


def _encode_any_character() -> None:
    """Escape characters that the terminal's encoding lacks, as Python does on stderr alone, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
