"""The error with which a command fails."""

import click


class CommandError(click.ClickException):
    """A command is refused or fails: prints the reason on stderr and exits with code 1."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        click.echo(self.message, err=True)


class AccessDenied(CommandError):
    """The key is missing, unknown, or may not do this."""
