"""One connection to Redis, opened when it is needed and dropped with every error, and what its errors mean."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLError
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from gateway.control.fleet.store import StoreUnavailable
from gateway.settings.store_url import StoreUrl

Word = str | bytes
RESP: Final = 2
ALLOWED: Final = (
    "~{gateway:* &{gateway:* +info +eval +evalsha +hmget +hget +hgetall +hlen +hset +hdel +publish +subscribe"
)
REMEDIES: Final = (  # by a part of the server's text; redis-py takes the code off some of them
    (("read only replica",), "it is a replica: name the primary, or its sentinels with redis+sentinel://"),
    (("used memory",), "its memory is full: raise its maxmemory, and set its maxmemory-policy to noeviction"),
    (("loading the dataset",), "it is loading its data, which passes"),
    (
        ("NOAUTH", "Authentication required", "invalid username-password", "invalid password", "Invalid Username"),
        "it wants a user or password, or another one: give it in the URL",
    ),
    (("without any password", "no password is set"), "it has no password: take it out of the URL"),
    (("MISCONF",), "it cannot write to its disk: make room there, and see its log"),
    (("NOREPLICAS",), "too few of its replicas are in contact (min-replicas-to-write)"),
    (("MASTERDOWN", "Link with MASTER"), "it is a replica that has lost its primary: name the primary"),
    (("no permissions", "can't access"), f"the user lacks a permission: ACL SETUSER USER {ALLOWED}"),
    (("MOVED", "CROSSSLOT", "Hash slot"), "it is a cluster: use one primary with its replicas"),
    (("WRONGTYPE",), "its keys belong to another program: choose another fleet.name"),
    (("max number of clients",), "it has no connection left: raise its maxclients"),
    (("BUSY",), "another script takes long there"),
    (("unknown command",), "it is no Redis 7 or Valkey, or it is a sentinel: redis+sentinel://host:26379/NAME"),
    (("CERTIFICATE", "certificate"), "its certificate is not trusted: give the authority's with ?ca=FILE"),
)


class RedisConnection:
    """Used by one task at a time. After an error or a cancellation the next call opens a new connection."""

    def __init__(self, url: StoreUrl, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._connection: AbstractConnection | None = None

    async def call(self, *words: Word) -> Any:
        """Send a command and return its reply. Raises NoScriptError, StoreUnavailable."""
        async with self._dropped_on_errors():
            connection = await self._connected()
            await connection.send_command(*words)
            try:
                return await connection.read_response()
            except NoScriptError as error:
                unknown = error
        raise unknown  # the connection is as good as before

    async def read(self, idle_s: float) -> Any:
        """The next message; None after `idle_s` without one. Raises StoreUnavailable."""
        async with self._dropped_on_errors():
            return await (await self._connected()).read_response(timeout=idle_s)

    async def drop(self) -> None:
        """Close the connection, so that a reply that is still to come never answers a later call."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    @asynccontextmanager
    async def _dropped_on_errors(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            await self.drop()
            if isinstance(error, RedisError | OSError | ValueError):
                raise StoreUnavailable(f"{self._url.label}: {explained(error)}") from None
            raise

    async def _connected(self) -> AbstractConnection:
        if self._connection is None:
            self._connection = await self._new_connection()
            await self._connection.connect()
        return self._connection

    async def _new_connection(self) -> AbstractConnection:
        url = self._url
        common: dict[str, Any] = {
            "db": url.db, "username": url.username or None, "password": url.password or None, "protocol": RESP,
            "socket_timeout": None, "socket_connect_timeout": None, "retry": no_retry(),
        }  # fmt: skip
        if url.scheme == "unix":
            return UnixDomainSocketConnection(path=url.path, **common)
        host, port = url.hosts[0] if not url.service else await self._primary()
        if url.scheme == "rediss":
            files: dict[str, Any] = {f"ssl_{name}": url.file(option) for name, option in TLS_ARGUMENTS}
            return SSLConnection(host=host, port=port, ssl_check_hostname=True, **files, **common)
        return Connection(host=host, port=port, **common)

    async def _primary(self) -> tuple[str, int]:
        """Ask the sentinels, each for a part of the time."""
        part_s = self._timeout_s / (len(self._url.hosts) + 1)
        options = self._url.options
        sentinels = Sentinel(
            list(self._url.hosts),
            sentinel_kwargs={
                "username": options.get("sentinel_user"), "password": options.get("sentinel_password"),
                "socket_timeout": part_s, "socket_connect_timeout": part_s, "retry": no_retry(), "protocol": RESP,
            },
        )  # fmt: skip
        try:
            host, port = await sentinels.discover_master(self._url.service)
            return host, port
        except MasterNotFoundError as error:
            wants = "; they want sentinel_password, or another one" if "uthentication" in str(error) else ""
            raise ConnectionError(f"no sentinel knows a primary named {self._url.service}{wants}") from None
        finally:
            for client in sentinels.sentinels:
                await client.connection_pool.disconnect()


TLS_ARGUMENTS: Final = (("ca_certs", "ca"), ("certfile", "cert"), ("keyfile", "key"))


def no_retry() -> Retry:
    """The caller decides whether and when to try again."""
    return Retry(NoBackoff(), 0)


def explained(error: Exception) -> str:
    """The server's or the system's text, and the remedy if one is known."""
    if isinstance(error.__context__, SSLError):  # some versions of redis-py leave its text out
        error = error.__context__
    text = str(error) or type(error).__name__
    remedy = next((remedy for marks, remedy in REMEDIES if any(mark in text for mark in marks)), "")
    return f"{text}: {remedy}" if remedy else text
