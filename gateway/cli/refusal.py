"""How a command says no."""

import click


class CommandError(click.ClickException):
    """A reason on stderr, and exit code 1."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        click.echo(self.message, err=True)
