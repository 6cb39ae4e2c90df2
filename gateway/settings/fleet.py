"""The settings of a fleet: several gateways, one on each host, whose stops hold on all of them."""

import os
import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from gateway.settings.base import Settings
from gateway.settings.from_environment import FromEnvironment
from gateway.settings.store_url import parse_store_url
from gateway.settings.units import Seconds, Text

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")


def _store(value: Any) -> Any:
    if isinstance(value, dict):
        return FromEnvironment.model_validate(value)
    if not isinstance(value, str):
        raise ValueError("must be a URL such as redis://10.0.0.5:6379/0, or {env: NAME}")
    parse_store_url(value)
    return value


def _name(value: Any) -> Any:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 100 letters, digits, dots, dashes or underscores")
    return value


class FleetSettings(Settings):
    """A fleet. Its store is a Redis, Valkey or etcd that exists; needs the extra `fleet`."""

    store: Annotated[
        str | FromEnvironment,
        BeforeValidator(_store),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string"},
                    {"type": "object", "properties": {"env": {"type": "string"}}, "required": ["env"]},
                ]
            }
        ),
    ]
    """URL of the store: redis://, rediss://, unix://, redis+sentinel://, etcd:// or etcds://, or `{env: NAME}`."""
    name: Annotated[str, BeforeValidator(_name)] = "gateway"
    """Gateways with the same name and store are one fleet."""
    lease: Seconds = Field(default=3.0, ge=1, le=60)
    """Without contact with the store for this long, candidates get no traffic here; the same on all hosts."""
    when_lost: Literal["close", "hold"] = "close"
    """`hold`: go on with candidates when contact is lost; a stop made elsewhere is then never confirmed by time."""
    host: Text | None = None
    """This host's name in status and messages; null: the machine's host name and the data port."""

    def url(self) -> str:
        """The store's URL, from the environment if it is there. Raises ValueError."""
        if isinstance(self.store, str):
            return self.store
        found = os.environ.get(self.store.env)
        if not found:
            raise ValueError(f"fleet.store: the environment has no variable {self.store.env}; set it")
        try:
            parse_store_url(found)
        except ValueError as error:
            raise ValueError(f"fleet.store: the variable {self.store.env}: {error}") from None
        return found
