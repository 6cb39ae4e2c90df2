"""Network namespaces joined by a bridge, each a host with an address of its own: made by iproute2, gone at the end."""

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

PREFIX: Final = "lt"  # of all names: then the process that made them, in hexadecimal digits
FOLDER: Final = Path("/var/run/netns")
NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
PACKAGES: Final = {
    "ip": "iproute2", "redis-server": "redis-server", "etcd": "etcd-server", "haproxy": "haproxy", "wrk": "wrk"
}  # fmt: skip
WHERE: Final = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


def program(name: str) -> str | None:
    """The path of a program, or None."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{WHERE}")


def why_not(*programs: str) -> str:
    """What is missing for namespaces and these programs, or an empty text."""
    missing = [PACKAGES[name] for name in ("ip", *programs) if program(name) is None]
    if missing:
        return f"missing: apt-get install {' '.join(missing)}"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"{PREFIX}{os.getpid():x}-probe"
    done = subprocess.run([program("ip") or "ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    _gone("netns", "del", probe)
    return f"no network namespaces here: {done.stderr.strip()}" if done.returncode else ""


class Namespace:
    """One host's network. `link`: the bridge's end of its cable. `address`: its own."""

    def __init__(self, name: str, link: str, address: str) -> None:
        self.name = name
        self.address = address
        self._link = link
        self._inside = ThreadPoolExecutor(1, name, initializer=_enter, initargs=(FOLDER / name,))

    def command(self, *words: str) -> list[str]:
        """The command that runs `words` inside; the process that it starts becomes that of `words`."""
        return ["ip", "netns", "exec", self.name, *words]

    def open_socket(self, family: int, kind: int) -> socket.socket:
        """A socket that stays inside, for any thread."""
        return self._inside.submit(socket.socket, family, kind).result()

    def connected(self, port: int, timeout_s: float = 10.0) -> socket.socket:
        """A connection to `port` of its loopback. Raises OSError."""
        made = self.open_socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.settimeout(timeout_s)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.connect(("127.0.0.1", port))
        except BaseException:
            made.close()
            raise
        return made

    def unplug(self) -> None:
        """No packet comes in or out any more; inside, everything reaches its own addresses as before."""
        _ip("link", "set", self._link, "down")

    def plug(self) -> None:
        """Undo `unplug`."""
        _ip("link", "set", self._link, "up")

    def close(self) -> None:
        """Forget the thread inside."""
        self._inside.shutdown()


@contextlib.contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """So many of them, named after this process, in a network that no interface of this machine uses."""
    _sweep()
    tag = f"{PREFIX}{os.getpid():x}"
    network = _free_network()
    with contextlib.ExitStack() as stack:
        _ip("link", "add", tag, "type", "bridge")
        stack.callback(_gone, "link", "del", tag)
        _ip("addr", "add", f"{network}.1/24", "dev", tag)
        _ip("link", "set", tag, "up")
        made = []
        for number in range(count):
            made.append(_namespace(stack, tag, number, f"{network}.{number + 10}"))
            stack.callback(made[-1].close)
        yield made


def _namespace(stack: contextlib.ExitStack, bridge: str, number: int, address: str) -> Namespace:
    name, inner = f"{bridge}-{number}", f"{bridge}i{number}"
    link = f"{bridge}o{number}"
    _ip("netns", "add", name)
    stack.callback(_gone, "netns", "del", name)
    _ip("link", "add", link, "type", "veth", "peer", "name", inner, "netns", name)
    stack.callback(_gone, "link", "del", link)
    _ip("link", "set", link, "master", bridge, "up")
    _ip("-n", name, "addr", "add", f"{address}/24", "dev", inner)
    for interface in ("lo", inner):
        _ip("-n", name, "link", "set", interface, "up")
    return Namespace(name, link, address)


def _sweep() -> None:
    """End and remove what processes that were killed have left."""
    for name in [path.name for path in FOLDER.glob(f"{PREFIX}*-*")]:
        tag = name.partition("-")[0]
        with contextlib.suppress(ValueError):
            if not Path(f"/proc/{int(tag.removeprefix(PREFIX), 16)}").exists():
                for pid in _ip("netns", "pids", name).split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                _gone("netns", "del", name)
                _gone("link", "del", tag)


def _free_network() -> str:
    """Of 198.18.0.0/15, which is for measurements between hosts (RFC 2544)."""
    used = _ip("-4", "-o", "addr")
    free = [f"198.{second}.{third}" for second in (18, 19) for third in range(256)]
    return random.choice([network for network in free if f" {network}." not in used])


def _ip(*words: str) -> str:
    done = subprocess.run([program("ip") or "ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ip {' '.join(words)}: {done.stderr.strip() or 'failed'}: are namespaces allowed here?")
    return done.stdout


def _gone(*words: str) -> None:
    """What a deletion finds gone already is well: a cable goes with either end."""
    subprocess.run([program("ip") or "ip", *words], capture_output=True, check=False)


def _enter(path: Path) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if library.setns(descriptor, NEW_NETWORK):
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")
    finally:
        os.close(descriptor)
