"""routing.yaml: the releases. Which version answers which request."""

import re
from collections import Counter
from typing import Any, Final, Literal

from pydantic import AliasChoices, ConfigDict, Field, field_validator, model_validator

from gateway.settings.base import Settings
from gateway.settings.guards import (
    ConditionSettings,
    GuardsSettings,
    MirrorSettings,
    RampSettings,
    RescueSettings,
)
from gateway.settings.matching import MatchSettings
from gateway.settings.units import Name, Text, Version, WeightPpm

RESERVED: Final = {"default": "the traffic that no route matches", "pinned": "requests that name a version"}
MAX_LIVE_ROUTES: Final = 16  # routes of one release whose weights are turned while it runs
_STICKINESS: Final = re.compile(r"customer|prediction|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class RouteSettings(Settings):
    """One rule of a split. `match` items are alternatives; without any the route matches every request."""

    name: Name
    """What answers, records and metrics call it."""
    match: tuple[MatchSettings, ...] = ()
    """Alternatives: the route is for requests that one of them fits; without any, for every request."""
    weight: Literal["ramp"] | WeightPpm
    """The percentage that gets the candidate, to 0.0001% exactly; `ramp`: as `ramp` has it now."""
    while_: tuple[ConditionSettings, ...] = Field(default=(), alias="while")
    """Live metrics that must all hold; while one does not, or is unknown, the route's weight is 0."""

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value in RESERVED:
            raise ValueError(f"'{value}' is reserved: it names {RESERVED[value]}")
        return value


class SplitSettings(Settings):
    """Who meets the candidate. The first route that matches decides; without one stable answers."""

    stickiness: str = "customer"
    """What always gets the same version: `customer`, `prediction` (each for itself) or `header:NAME`."""
    salt: Text | None = None
    """Decides which customers come first; null: `digits-2`, of model and candidate; not written: as it was for it."""
    routes: tuple[RouteSettings, ...] = ()
    """The rules. The first that matches decides; without one stable answers."""

    @field_validator("stickiness")
    @classmethod
    def _known(cls, value: str) -> str:
        if not _STICKINESS.fullmatch(value):
            raise ValueError(f"{value!r} is none of customer, prediction and header:NAME")
        return value.lower() if value.startswith("header:") else value

    @model_validator(mode="after")
    def _unique(self) -> "SplitSettings":
        counts = Counter(route.name for route in self.routes)
        for name, count in counts.items():
            if count > 1:
                raise ValueError(f"two routes are named '{name}'; metrics and records tell routes apart by name")
        return self


def _canary_too(schema: dict[str, Any]) -> None:
    schema["properties"]["canary"] = schema["properties"]["candidate"]


class ReleaseSettings(Settings):
    """One model: the version that everyone gets, and the one that meets some of the traffic."""

    model_config = ConfigDict(json_schema_extra=_canary_too)

    stable: Version
    """The version that everyone gets."""
    candidate: Version | None = Field(default=None, validation_alias=AliasChoices("candidate", "canary"))
    """The version that meets some of the traffic; `canary` means the same."""
    split: SplitSettings | None = None
    """Who meets the candidate."""
    ramp: RampSettings | None = None
    """What `weight: ramp` follows."""
    mirror: MirrorSettings | None = None
    """Copies requests to the candidate after stable has answered."""
    rescue: RescueSettings | None = None
    """When stable answers in the candidate's place; also in force without being named."""
    guards: GuardsSettings | None = None
    """What stops the candidate without anyone's help; the breaker is also in force without being named."""

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, value: Any) -> Any:
        if isinstance(value, dict) and "candidate" in value and "canary" in value:
            raise ValueError("has both candidate and canary, which mean the same; keep one")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "ReleaseSettings":
        if self.candidate == self.stable:
            raise ValueError(f"candidate and stable are both version {self.stable}")
        if self.candidate is None and self.split is not None and self.split.routes:
            raise ValueError("has routes, but no candidate to send them to")
        live = (
            [route.name for route in self.split.routes if route.weight == "ramp" or route.while_] if self.split else []
        )
        if len(live) > MAX_LIVE_ROUTES:
            raise ValueError(f"has {len(live)} routes with a ramp or while; {MAX_LIVE_ROUTES} is the most")
        ramped = any(route.weight == "ramp" for route in self.split.routes) if self.split else False
        if ramped and self.ramp is None:
            raise ValueError("a route has weight: ramp, but there is no ramp to follow")
        return self

    @property
    def compares_latency(self) -> bool:
        """Whether it is evidence against the candidate how long either version takes."""
        comparisons = self.guards.comparisons if self.guards and self.candidate is not None else ()
        return any(comparison.metric == "slow_requests" for comparison in comparisons)


class RoutingSettings(Settings):
    """The whole file."""

    models: dict[Name, ReleaseSettings] = Field(default_factory=dict)
    """The releases by model. One never named here is served in the version that was its highest when first seen."""
