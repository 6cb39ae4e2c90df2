"""Real stores, each in a process and a temporary folder of its own: a Redis and an etcd."""

import asyncio
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

from gateway.control.fleet.store import FleetStore
from gateway.control.fleet.stores import open_store
from loadtests.free_port import free_port

READY_WITHIN_S = 60.0
LONG_S = 30.0  # for calls that must succeed, however slow the machine is
PACKAGES = {"redis-server": "redis-server", "etcd": "etcd-server"}


def program(name: str) -> str:
    """The path of a server's program. Without it a test is skipped, which fails in CI."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install {PACKAGES[name]}")
    return found


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an asynchronous test in an event loop of its own."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(test(**arguments))

    return run


@asynccontextmanager
async def opened(url: str, name: str = "test", timeout_s: float = LONG_S) -> AsyncIterator[FleetStore]:
    """A store that is closed in the end."""
    store = open_store(url, name, timeout_s)
    try:
        yield store
    finally:
        await store.close()


class StoreServer(ABC):
    """A server on a port that stays the same. As a context: ended on exit."""

    keeps_run_id = False  # over a restart

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self._options = options
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()

    @property
    @abstractmethod
    def url(self) -> str: ...

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def is_ready(self) -> bool: ...

    @abstractmethod
    def wipe(self) -> None:
        """Delete all data while the server runs."""

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log,
                                             env=os.environ | {"GOMAXPROCS": "1"})  # fmt: skip
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.is_ready():
            assert self.process.poll() is None and time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        self.thaw()
        self.process.kill()
        self.process.wait(30)
        self._process = None

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class RedisServer(StoreServer):
    """Writes each change to disk before it answers, as the fleet needs it. `password`: for `send`."""

    password = ""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        listen = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        at_once = ("--repl-diskless-sync-delay", "0")
        return [program("redis-server"), *listen, *durable, *at_once, *self._options]

    def is_ready(self) -> bool:
        try:
            return not self.send("PING").startswith("-LOADING")
        except OSError:
            return False

    def wipe(self) -> None:
        assert self.send("FLUSHALL") == "+OK"

    def send(self, *words: str, after: tuple[str, ...] = ()) -> str:
        """The first line of a command's reply. `after`: a command before it over the same connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=READY_WITHIN_S) as connection:
            commands = [("AUTH", self.password)] if self.password else []
            with connection.makefile("rwb") as stream:
                for command in [*commands, *([after] if after else []), words]:
                    parts = [f"*{len(command)}", *(line for word in command for line in (f"${len(word)}", word))]
                    stream.write("".join(f"{part}\r\n" for part in parts).encode())
                    stream.flush()
                    line = stream.readline().decode().strip()
                return line


class EtcdServer(StoreServer):
    """One member, which elects itself at once if it is alone. `peers`: all members, itself included."""

    keeps_run_id = True

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, *options)
        self.name = "default"
        self.peer = f"http://127.0.0.1:{free_port()}"
        self.peers: Sequence[EtcdServer] = [self]

    @property
    def url(self) -> str:
        return f"etcd://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        client = ("--listen-client-urls", self.address, "--advertise-client-urls", self.address)
        peer = ("--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer)
        peers = ",".join(f"{member.name}={member.peer}" for member in self.peers)
        cluster = ("--name", self.name, "--initial-cluster", peers, "--logger", "zap", "--log-level", "error")
        quick = ("--heartbeat-interval", "20", "--election-timeout", "200")
        return [
            program("etcd"),
            "--data-dir",
            str(self.folder / "data"),
            *client,
            *peer,
            *cluster,
            *quick,
            *self._options,
        ]

    def is_ready(self) -> bool:
        return is_healthy(self.address)

    def leads(self) -> bool:
        """Whether it is its cluster's leader."""
        status = self.send("maintenance/status", {})
        return bool(status["leader"] == status["header"]["member_id"])

    def wipe(self) -> None:
        everything = b64encode(b"\0").decode()
        self.send("kv/deleterange", {"key": everything, "range_end": everything})

    def send(self, call: str, message: Any) -> Any:
        """The reply to a call."""
        reply = httpx.post(f"{self.address}/v3/{call}", content=json.dumps(message), trust_env=False, timeout=30)
        assert reply.status_code == 200, reply.text
        return reply.json()


class EtcdCluster:
    """Three members. As a context: ended on exit."""

    def __init__(self, folder: Path) -> None:
        self.members = [EtcdServer(folder / str(number)) for number in range(3)]
        for number, member in enumerate(self.members):
            member.name = f"m{number}"
        for member in self.members:
            member.peers = self.members

    @property
    def url(self) -> str:
        return "etcd://" + ",".join(f"127.0.0.1:{member.port}" for member in self.members)

    def __enter__(self) -> Self:
        with ThreadPoolExecutor() as threads:  # each waits for the others
            for starting in [threads.submit(member.start) for member in self.members]:
                starting.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            member.__exit__(kind, error, trace)


def is_healthy(address: str) -> bool:
    """Whether an etcd serves there."""
    try:
        return b"true" in httpx.get(f"{address}/health", trust_env=False, verify=False, timeout=5).content
    except httpx.TransportError:
        return False


class TlsEtcdServer(EtcdServer):
    """Its clients use TLS; only its health can be asked without."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._health = f"http://127.0.0.1:{free_port()}"
        super().__init__(folder, "--listen-metrics-urls", self._health, *options)

    @property
    def url(self) -> str:
        return f"etcds://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        return is_healthy(self._health)


class SentinelServer(RedisServer):
    """A sentinel of its own, which decides alone, after half a second without an answer of the primary."""

    def __init__(self, folder: Path, primary: RedisServer) -> None:
        super().__init__(folder)
        self._config = folder / "sentinel.conf"
        self._config.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {folder}\nsentinel monitor fleet 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds fleet 500\nsentinel failover-timeout fleet 2000\n"
        )

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/fleet"

    def command(self) -> list[str]:
        return [program("redis-server"), str(self._config), "--sentinel"]
