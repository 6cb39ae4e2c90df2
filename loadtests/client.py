"""Closed-loop connections that know exactly when they have read what: plain sockets, one request at a time on each."""

import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

RECEIVE = 65536
KEPT_S = 4.0  # uvicorn keeps an idle connection for 5 s
OPENED_WITHIN_S = 10.0
ANSWERED_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `variant` is empty where the gateway named none; `ms` from sending to reading.

    `last`: the server ends the connection with it.
    """

    status: int
    variant: str
    ms: float
    body: bytes
    last: bool = False


@dataclass(slots=True, eq=False)
class _Connection:
    socket: socket.socket
    buffer: bytes = b""
    sent_s: float = 0.0
    waiting: bool = False
    opening: bool = False

    def idle_s(self) -> float:
        """Since it was last asked something, if it has answered."""
        return 0.0 if self.waiting else time.perf_counter() - self.sent_s


@dataclass(slots=True)
class Seen:
    """What a client has seen so far: answers by variant, failures with an example of each, latencies in ms."""

    variants: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    ms: list[float] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        self.ms.append(answer.ms)
        if answer.status == 200:
            self.variants[answer.variant] += 1
        else:
            self.failures[f"{answer.status}: {answer.body[:200].decode(errors='replace')}"] += 1


class Client:
    """`count` connections to one address. `requests` gives the next request's bytes, head and body.

    `reconnect`: a connection that the server has closed is opened anew, and what it waited for counts as lost. As every
    client of HTTP does, it looks whether a connection is still open before it asks on it once more: a server may close
    an idle one whenever it likes (RFC 9112, 9.5). Otherwise none may be closed that was idle for less than KEPT_S,
    unless its last answer announced it (`Connection: close`); those others are opened anew in any case. The time that
    an answer takes includes that of connecting. `sockets` makes them, by family and kind: in another network namespace.
    """

    def __init__(
        self,
        address: tuple[str, int],
        count: int,
        requests: Callable[[], bytes],
        *,
        reconnect: bool = False,
        sockets: Callable[[int, int], socket.socket] = socket.socket,
    ) -> None:
        self._address = address
        self._requests = requests
        self._reconnect = reconnect
        self._sockets = sockets
        self._selector = selectors.DefaultSelector()
        self._connections = [self._opened() for _ in range(count)]
        self.lost = 0

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *raised: object) -> None:
        for connection in self._connections:
            connection.socket.close()
        self._selector.close()

    def send(self) -> None:
        """Send a request on every connection that waits for none."""
        for connection in self._connections:
            if not connection.waiting:
                self._send(connection)

    def send_some(self, count: int) -> int:
        """Send up to `count` requests on connections that wait for none; returns how many were sent."""
        free = [connection for connection in self._connections if not connection.waiting][: max(0, count)]
        for connection in free:
            self._send(connection)
        return len(free)

    def there(self) -> list[Answer]:
        """The answers that have arrived; does not wait. What the server sent before this call is among them."""
        return list(self._read(0.0))

    def rest(self) -> list[Answer]:
        """Wait for all answers that are still out."""
        answers: list[Answer] = []
        end = time.monotonic() + ANSWERED_WITHIN_S
        while any(connection.waiting for connection in self._connections):
            answers += self._read(0.1)
            assert time.monotonic() < end, "the gateway has not answered within 30 s"
        return answers

    def keep_busy(self, seconds: float, seen: Seen) -> None:
        """Send as fast as answers come; nothing is out at the end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.send()
            for answer in self._read(0.05):
                seen.add(answer)
        for answer in self.rest():
            seen.add(answer)

    def _opened(self) -> _Connection:
        connection = _Connection(self._socket())
        connection.socket.settimeout(OPENED_WITHIN_S)
        connection.socket.connect(self._address)
        self._follow(connection, selectors.EVENT_READ)
        return connection

    def _reopened(self) -> _Connection:
        """One that is being opened; what is asked on it goes out when it is."""
        connection = _Connection(self._socket(), opening=True)
        connection.socket.setblocking(False)
        connection.socket.connect_ex(self._address)
        self._follow(connection, selectors.EVENT_WRITE)
        return connection

    def _socket(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        return self._sockets(family, socket.SOCK_STREAM)

    def _follow(self, connection: _Connection, event: int) -> None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.setblocking(False)
        self._selector.register(connection.socket, event, connection)

    def _send(self, connection: _Connection) -> None:
        may_be_closed = self._reconnect or connection.idle_s() > KEPT_S
        if may_be_closed and not connection.opening and _is_closed(connection):
            connection = self._closed(connection)
        connection.sent_s = time.perf_counter()
        connection.waiting = True
        if not connection.opening:
            self._ask(connection)

    def _ask(self, connection: _Connection) -> None:
        try:
            connection.socket.sendall(self._requests())
        except OSError:
            self._closed(connection)

    def _is_open(self, connection: _Connection) -> None:
        """Or no one listens: what waits for it is lost."""
        if connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._closed(connection)
            return
        connection.opening = False
        self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
        if connection.waiting:
            self._ask(connection)

    def _read(self, timeout_s: float) -> Iterator[Answer]:
        for key, _ in self._selector.select(timeout_s):
            connection: _Connection = key.data
            if connection.opening:
                self._is_open(connection)
                continue
            try:
                received = connection.socket.recv(RECEIVE)
            except BlockingIOError:
                continue
            except OSError:
                received = b""
            if not received:
                self._closed(connection)
                continue
            connection.buffer += received
            answer = _parsed(connection)
            if answer is not None:
                yield answer
                if answer.last:
                    self._replaced(connection)

    def _closed(self, connection: _Connection) -> _Connection:
        """The one in place of one that was closed unannounced."""
        assert self._reconnect or connection.idle_s() > KEPT_S, "the gateway has closed a connection"
        return self._replaced(connection)

    def _replaced(self, connection: _Connection) -> _Connection:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self.lost += connection.waiting
        self._connections[self._connections.index(connection)] = again = self._reopened()
        return again


def _is_closed(connection: _Connection) -> bool:
    """By the server, as far as it is known here."""
    try:
        return not connection.socket.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _parsed(connection: _Connection) -> Answer | None:
    head, separator, rest = connection.buffer.partition(b"\r\n\r\n")
    if not separator:
        return None
    status, *lines = head.split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    length = int(headers.get(b"content-length", b"0"))
    if len(rest) < length:
        return None
    connection.buffer = rest[length:]
    connection.waiting = False
    ms = (time.perf_counter() - connection.sent_s) * 1e3
    last = headers.get(b"connection", b"").lower() == b"close"
    return Answer(int(status.split()[1]), headers.get(b"x-variant", b"").decode(), ms, rest[:length], last)


def request(path: str, body: bytes, headers: str = "") -> bytes:
    """The bytes of a POST; `headers` are lines that end in CR LF."""
    return f"POST {path} HTTP/1.1\r\nhost: loadtest\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body
