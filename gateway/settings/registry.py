"""The settings of a model registry, whose aliases name the versions to release."""

import os
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from gateway.settings.base import Settings
from gateway.settings.from_environment import FromEnvironment
from gateway.settings.units import Address, Seconds, Text, WeightPpm

MOST_POLL_S: Final = 3600.0
SHORTEST_SECRET: Final = 16


class MlflowSettings(Settings):
    """An MLflow server: its alias `champion` is the stable version, its alias `challenger` the candidate."""

    url: Address
    """Address of the server, such as `http://mlflow:5000`."""
    poll: Annotated[Seconds, Field(ge=1, le=MOST_POLL_S)] = 10.0
    """How often the aliases are read, in one call for each model."""
    token: FromEnvironment | None = None
    """The token to sign in with, from the environment: `{env: MLFLOW_TOKEN}`; null: none."""
    user: Text | None = None
    """The name for HTTP Basic, with the token as password, as MLflow's own accounts want it; null: a bearer token."""
    ca: Text | None = None
    """A file of certificates to trust instead of the system's, for https."""
    webhook_secret: FromEnvironment | None = None
    """The secret of MLflow's webhook, from the environment: a delivery lets the next poll come now; null: none does."""
    follow: Literal["challenger", "champion"] = "challenger"
    """`champion`: a champion that is moved to any version becomes stable at once, without a release as candidate."""
    weight: Literal["ramp"] | WeightPpm | None = None
    """The weight of the route `everyone` for a new candidate, in percent, or `ramp`; null: the routes stay."""
    evidence: Address | None = None
    """Address of this gateway's control plane as people reach it, for tags; null: from `control`."""

    @model_validator(mode="after")
    def _fitting(self) -> "MlflowSettings":
        if self.user is not None and self.token is None:
            raise ValueError("has a user, but no token: give its password as token, from the environment")
        if self.ca is not None and not self.url.startswith("https:"):
            raise ValueError("ca is for https, but the url does not begin with https")
        return self

    def token_value(self) -> str:
        """The token, from the environment, or an empty text. Raises ValueError that names the missing variable."""
        found = _value(self.token, "token")
        if self.token is not None and not (found.isascii() and found.isprintable()):
            raise ValueError(f"registry.mlflow.token: {self.token.env} holds characters that no header may have")
        return found

    def webhook_secret_value(self) -> str:
        """The webhook's secret, from the environment, or an empty text. Raises ValueError as `token_value` does."""
        found = _value(self.webhook_secret, "webhook_secret")
        if self.webhook_secret is not None and len(found) < SHORTEST_SECRET:
            raise ValueError(
                f"registry.mlflow.webhook_secret: {self.webhook_secret.env} has {len(found)} characters;"
                f" {SHORTEST_SECRET} are needed, such as those of `openssl rand -hex 32`"
            )
        return found


def _value(setting: FromEnvironment | None, key: str) -> str:
    if setting is None:
        return ""
    found = os.environ.get(setting.env)
    if not found:
        raise ValueError(f"registry.mlflow.{key}: the environment has no variable {setting.env}; set it")
    return found


class RegistrySettings(Settings):
    """The registry from which models with the key `registry` in the routing file get their versions."""

    mlflow: MlflowSettings
    """An MLflow server."""
