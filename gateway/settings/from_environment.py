"""A setting whose value is in the environment, such as a password."""

from gateway.settings.base import Settings
from gateway.settings.units import Text


class FromEnvironment(Settings):
    """A value that is read from the environment when it is needed."""

    env: Text
    """The name of the variable."""
