"""Opens the store that a URL names."""

from gateway.control.fleet.store import FleetStore
from gateway.settings.extras import check_redis
from gateway.settings.store_url import parse_store_url


def check_url(url: str) -> None:
    """Raise ValueError, with a text that says what would be right, if `url` names no store."""
    parse_store_url(url)


def open_store(url: str, name: str, timeout_s: float) -> FleetStore:
    """The store of the fleet `name`, which connects with the first call. `timeout_s`: for each call as a whole.

    Raises ValueError for a URL that `check_url` refuses, SettingsError if the package for it is not installed.
    """
    parsed = parse_store_url(url)
    if parsed.is_redis:
        check_redis()
        from gateway.control.fleet.redis_store import RedisStore  # only with the extra `fleet`

        return RedisStore(parsed, name, timeout_s)
    from gateway.control.fleet.etcd_store import EtcdStore

    return EtcdStore(parsed, name, timeout_s)
