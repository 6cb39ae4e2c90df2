"""The settings of routing.yaml, the releases: which version answers which request."""

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
MAX_LIVE_ROUTES: Final = 16  # routes of one release whose weights the control process changes while it runs
_STICKINESS: Final = re.compile(r"customer|prediction|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class RouteSettings(Settings):
    """One rule of a split."""

    name: Name
    """Its name in responses, records and metrics."""
    match: tuple[MatchSettings, ...] = ()
    """Alternatives: the route matches a request if one of them does; without any, it matches every request."""
    weight: Literal["ramp"] | WeightPpm
    """The percentage of matching requests that get the candidate, in steps of 0.0001%; `ramp`: the ramp's weight."""
    while_: tuple[ConditionSettings, ...] = Field(default=(), alias="while")
    """Conditions on live metrics; while one does not hold, or its metric is unknown, the route's weight is 0."""

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value in RESERVED:
            raise ValueError(f"'{value}' is reserved: it names {RESERVED[value]}")
        return value


class SplitSettings(Settings):
    """Which requests get the candidate."""

    stickiness: str = "customer"
    """Requests that share this get the same version: `customer`, `header:NAME`, or `prediction` (each on its own)."""
    salt: Text | None = None
    """Decides which customers come first; null: model and candidate (`digits-2`); without this key: unchanged."""
    routes: tuple[RouteSettings, ...] = ()
    """The rules, in order. The first that matches decides; if none matches, stable answers."""

    @field_validator("stickiness")
    @classmethod
    def _known(cls, value: str) -> str:
        if not _STICKINESS.fullmatch(value):
            raise ValueError(f"{value!r} is not customer, prediction or header:NAME")
        return value.lower() if value.startswith("header:") else value

    @model_validator(mode="after")
    def _unique(self) -> "SplitSettings":
        counts = Counter(route.name for route in self.routes)
        for name, count in counts.items():
            if count > 1:
                raise ValueError(f"two routes are named '{name}'; give each route its own name")
        return self


def _canary_too(schema: dict[str, Any]) -> None:
    schema["properties"]["canary"] = schema["properties"]["candidate"]


class ReleaseSettings(Settings):
    """The release of one model: the stable version, and the candidate that gets some of the traffic."""

    model_config = ConfigDict(json_schema_extra=_canary_too)

    stable: Version
    """The version that answers all requests that do not get the candidate."""
    candidate: Version | None = Field(default=None, validation_alias=AliasChoices("candidate", "canary"))
    """The version that gets some of the traffic; `canary` is another name of this key."""
    split: SplitSettings | None = None
    """Which requests get the candidate."""
    ramp: RampSettings | None = None
    """The steps of routes with `weight: ramp`."""
    mirror: MirrorSettings | None = None
    """Copies requests to the candidate after stable has answered."""
    rescue: RescueSettings | None = None
    """Stable answers if the candidate fails or takes too long; without this key its defaults apply."""
    guards: GuardsSettings | None = None
    """What stops the candidate or pauses its ramp automatically; the breaker is in force without this key."""
    registry: Text | None = None
    """The model's name in the registry of gateway.yaml: its challenger becomes the candidate; null: none is asked."""

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, value: Any) -> Any:
        if isinstance(value, dict) and "candidate" in value and "canary" in value:
            raise ValueError("has both candidate and canary, which are the same key; keep one")
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
            raise ValueError(f"has {len(live)} routes with a ramp or while; {MAX_LIVE_ROUTES} is the limit")
        if self.is_ramped and self.ramp is None:
            raise ValueError("a route has weight: ramp, but the release has no ramp; add one")
        return self

    @property
    def latency_compared(self) -> bool:
        """Whether a guard compares the versions' latencies."""
        comparisons = self.guards.comparisons if self.guards and self.candidate is not None else ()
        return any(comparison.metric == "slow_requests" for comparison in comparisons)

    @property
    def is_ramped(self) -> bool:
        """Whether a route follows the ramp."""
        return any(route.weight == "ramp" for route in self.split.routes) if self.split else False

    @property
    def failures_compared(self) -> bool:
        """Whether both versions' failures are counted by the same rules: for a guard, or since the ramp asks."""
        comparisons = self.guards.comparisons if self.guards else ()
        return self.is_ramped or any(comparison.metric == "failures" for comparison in comparisons)


class RoutingSettings(Settings):
    """The whole file."""

    models: dict[Name, ReleaseSettings] = Field(default_factory=dict)
    """The releases by model. A model without an entry is served in the version that was its highest when first seen."""

    @model_validator(mode="after")
    def _registered_once(self) -> "RoutingSettings":
        owners: dict[str, str] = {}
        for name, release in self.models.items():
            if release.registry is not None and (owner := owners.setdefault(release.registry, name)) != name:
                raise ValueError(
                    f"models.{name}.registry: '{release.registry}' is that of {owner}, too; one alias cannot name the"
                    " versions of two releases, so register the model under a second name"
                )
        return self
