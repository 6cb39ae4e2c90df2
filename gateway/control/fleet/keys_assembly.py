"""Makes this host's part in the fleet's keys of prediction ids from the settings."""

from collections.abc import Callable
from pathlib import Path

from gateway.control.fleet.membership import Membership
from gateway.control.fleet.prediction_keys import SUFFIX, PredictionKeys
from gateway.control.fleet.stores import open_store
from gateway.records.token_keys import TokenKeys, keys_file
from gateway.settings.gateway import GatewaySettings


def open_keys(
    settings: GatewaySettings,
    membership: Membership | None,
    own: TokenKeys,
    adopt: Callable[[TokenKeys], None],
    in_use: Callable[[], bool],
) -> PredictionKeys | None:
    """None without a fleet. Connects to nothing yet. `adopt`, `in_use`: as PredictionKeys has them."""
    fleet = settings.fleet
    if fleet is None or membership is None:
        return None
    store = open_store(fleet.url(), fleet.name + SUFFIX, fleet.lease)
    return PredictionKeys(store, membership.timing, own, keys_file(Path(settings.state)), adopt, in_use)
