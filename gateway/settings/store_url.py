"""Parses the URL of a fleet's store. No text that is made here, errors included, holds a part of the password."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

PORTS: Final[Mapping[str, int]] = {  # by scheme; of redis+sentinel the sentinels'
    "redis": 6379, "rediss": 6379, "unix": 0, "redis+sentinel": 26379, "etcd": 2379, "etcds": 2379,
}  # fmt: skip
TLS_FILES: Final = ("ca", "cert", "key")
OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "redis": (), "rediss": TLS_FILES, "unix": ("db",), "redis+sentinel": ("sentinel_user", "sentinel_password"),
    "etcd": (), "etcds": TLS_FILES,
}  # fmt: skip
SEVERAL_HOSTS: Final = ("redis+sentinel", "etcd", "etcds")
HIGHEST_PORT: Final = 65535
FORBIDDEN: Final = re.compile(r"[\s\x00-\x1f\x7f]")
HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(?::(.*))?")
NO_OPTIONS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """`hosts`: with their ports. `path`: of a unix socket. `service`: the sentinels' name of the primary.

    `options`: what stands after the question mark.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    path: str = ""
    service: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_redis(self) -> bool:
        """Whether the store is a Redis or a Valkey."""
        return not self.scheme.startswith("etcd")

    @property
    def label(self) -> str:
        """The URL for messages: without user, password and options."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        service = f"/{self.service}" if self.service else ""
        return f"{self.scheme}://{hosts}{self.path}{service}" + (f"/{self.db}" if self.db and not self.path else "")

    def file(self, option: str) -> str | None:
        """The path of a file that an option names, None without the option. Raises OSError, with the path, early."""
        path = self.options.get(option)
        if path is not None:
            open(path, "rb").close()  # ssl does not say which file is missing
        return path


def parse_store_url(url: str) -> StoreUrl:
    """Raises ValueError with a text that says what would be right."""
    parts = _split(url)
    scheme = parts.scheme
    userinfo, _, hosts = parts.netloc.rpartition("@")
    username, password = _credentials(userinfo)
    options = _options(scheme, parts.query)
    if scheme == "unix":
        if hosts or parts.path in ("", "/"):
            raise ValueError("the path of the socket is missing: unix:///run/redis/redis.sock")
        db = _database(options.pop("db", ""))
        return StoreUrl(scheme, (), unquote(parts.path), "", db, username, password)
    addresses = tuple(_address(host, PORTS[scheme]) for host in hosts.split(","))
    if len(addresses) > 1 and scheme not in SEVERAL_HOSTS:
        raise ValueError(f"{scheme}:// takes one host; several with redis+sentinel:// or etcd://")
    service, db = _service_and_database(scheme, parts.path)
    return StoreUrl(scheme, addresses, "", service, db, username, password, options)


def _split(url: str) -> SplitResult:
    known = ", ".join(f"{scheme}://" for scheme in PORTS)
    if FORBIDDEN.search(url):
        raise ValueError("there is white space or a control character in the URL")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("the host is not valid; an IPv6 address stands in brackets: redis://[fd00::1]:6379") from None
    if parts.scheme not in PORTS or not url[len(parts.scheme) :].startswith("://"):
        raise ValueError(f"the URL must begin with one of {known}")
    if parts.fragment or "#" in url or "@" in parts.path + parts.query:
        raise ValueError(
            "write / ? # @ in a user or password as %2F %3F %23 %40; there is no other use for # and a second @"
        )
    return parts


def _credentials(userinfo: str) -> tuple[str, str]:
    username, _, password = userinfo.partition(":")
    if username and not password:
        raise ValueError("a user without a password: write user:password@, or for Redis :password@")
    return unquote(username), unquote(password)


def _options(scheme: str, query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    known = OPTIONS[scheme]
    unknown = [name for name, value in pairs if name not in known or not value]
    if unknown or len({name for name, _ in pairs}) < len(pairs) or (query and not pairs):
        takes = f"only {', '.join(known)}, each once and with a value" if known else "nothing"
        raise ValueError(f"{scheme}:// takes {takes} after the question mark")
    options = dict(pairs)
    if ("cert" in options) != ("key" in options):
        raise ValueError("cert and key are given together or not at all")
    return options


def _address(text: str, default_port: int) -> tuple[str, int]:
    match = HOST.fullmatch(text)
    if match is None:
        raise ValueError("the host is not valid; an IPv6 address stands in brackets: redis://[fd00::1]:6379")
    host, port = match[1].strip("[]"), match[2]
    if not host:
        raise ValueError("the host is missing")
    if port is None:
        return host, default_port
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= HIGHEST_PORT):
        raise ValueError(f"the port must be a number from 1 to {HIGHEST_PORT}")
    return host, int(port)


def _service_and_database(scheme: str, path: str) -> tuple[str, int]:
    words = path.removeprefix("/").removesuffix("/").split("/")
    if scheme.startswith("etcd"):
        if words != [""]:
            raise ValueError(f"{scheme}:// takes no path: {scheme}://host:2379")
        return "", 0
    service = unquote(words.pop(0)) if scheme == "redis+sentinel" else ""
    if scheme == "redis+sentinel" and not service:
        raise ValueError("the primary's name is missing: redis+sentinel://host:26379/mymaster")
    if len(words) > 1:
        raise ValueError("there is more in the path than the number of the database")
    return service, _database(words[0] if words else "")


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ValueError("the database is a number: redis://host:6379/0")
    return int(text or 0)
