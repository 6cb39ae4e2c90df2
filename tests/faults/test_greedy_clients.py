"""One client against all others: the memory it can occupy and the time it can block the event loop are bounded."""

import gzip
import json
import math
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.backends.onnx_models import FLOAT, doubling, helper, place, save
from tests.processes.flawed import PATIENCE_S, metric, workers
from tests.running import GatewayProcess
from tests.wire import Wire, doubled, post

MIB = 2**20
WIDTH = 1000
SLOW_READER_S = 1.0
LIMITS = {"receiving": "16MiB", "unsent": "32MiB", "slow_reader": f"{SLOW_READER_S:g}s", "inflight": 8, "timeout": "5s"}


def wide(path: Path) -> Path:
    """1,000 numbers for each number: small requests, large answers."""
    weights = helper.make_tensor("w", FLOAT, [1, WIDTH], [number / 7 for number in range(WIDTH)])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return save(path, [node], {"x": (FLOAT, ["n", 1])}, {"y": (FLOAT, ["n", WIDTH])}, [weights])


def total(path: Path) -> Path:
    """The sum of all numbers: large requests, small answers."""
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    return save(path, [node], {"x": (FLOAT, ["n"])}, {"y": (FLOAT, [])})


@contextmanager
def running(folder: Path, **limits: object) -> Iterator[GatewayProcess]:
    for name, make in (("wide", wide), ("total", total), ("doubling", doubling)):
        place(folder / "models", name, 1, make)
    with GatewayProcess(
        folder, folder / "models", limits={**LIMITS, **limits}, server={"max_body": "16MiB"}
    ) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running(tmp_path_factory.mktemp("greedy")) as gateway:
        yield gateway


def peak_mib(gateway: GatewayProcess) -> float:
    (worker,) = workers(gateway)
    return int(Path(f"/proc/{worker}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def flat(numbers: list[str], shape: list[int], **more: object) -> bytes:
    tensor = f'{{"name":"x","shape":{shape},"datatype":"FP32","data":[{",".join(numbers)}]}}'
    rest = "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in more.items())
    return f'{{"inputs":[{tensor}]{rest}}}'.encode()


def large_answer(rows: int) -> bytes:
    """A request of 5 bytes a row that is answered with some 10,000 bytes a row."""
    return post("wide", flat(["1.5"] * rows, [rows, 1]))


def until(condition: Callable[[], bool], within_s: float) -> float:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within_s
        time.sleep(0.02)
    return time.monotonic() - begun


@pytest.mark.slow
def test_bodies_being_received_are_bounded_and_the_largest_are_refused(gateway: GatewayProcess) -> None:
    """40 clients made a worker hold 1.3 GiB within 1.7 s."""
    before = peak_mib(gateway)
    head = b"POST /v2/models/total/infer HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % (16 * MIB)
    greedy = [Wire(gateway) for _ in range(40)]
    part = b" " * MIB

    def pour(wire: Wire) -> None:
        try:
            wire.send(head, *[part] * 10)
        except OSError:
            return

    pouring = [threading.Thread(target=pour, args=(wire,)) for wire in greedy]
    for one in pouring:
        one.start()
    honest = post("total", flat(["1"] * 100_000, [100_000]))
    with Wire(gateway) as wire:
        for _ in range(5):
            assert wire.send(honest).read().document["outputs"][0]["data"] == [100_000]
            assert wire.send(doubled(1)).read().status == 200
    assert peak_mib(gateway) < before + 96
    for one in pouring:
        one.join()
    statuses = []
    for wire in greedy:
        try:
            reply = wire.read()
            statuses.append(reply.status)
            assert reply.status != 503 or "limits.receiving" in reply.document["error"]
        except (OSError, AssertionError):
            statuses.append(0)
        wire.close()
    assert statuses.count(200) == 0
    assert statuses.count(503) + statuses.count(0) > 20


@pytest.mark.slow
def test_unread_answers_are_bounded_and_hold_no_slots(gateway: GatewayProcess) -> None:
    """200 clients made a worker hold 1.0 GiB and all of its slots for as long as they liked."""
    before = peak_mib(gateway)
    wires = []
    for _ in range(40):
        wire = Wire(gateway)
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wires.append(wire.send(large_answer(600)))
        wire.send(large_answer(600))
    with Wire(gateway) as honest:
        until(lambda: honest.send(doubled(1)).read().status == 200, PATIENCE_S)
    until(lambda: metric(gateway, "gateway_inflight_requests") == 0, PATIENCE_S)
    with Wire(gateway) as honest:
        assert honest.send(large_answer(600)).read().status == 200
    assert peak_mib(gateway) < before + 160
    for wire in wires:
        wire.close()


@pytest.mark.slow
def test_client_that_does_not_read_is_disconnected(gateway: GatewayProcess) -> None:
    with Wire(gateway) as wire:
        until(lambda: metric(gateway, "gateway_connections", state="open") == 1, PATIENCE_S)
        wire.send(large_answer(2000))  # 20 MB, of which the system holds some
        until(lambda: metric(gateway, "gateway_connections", state="open") == 0, PATIENCE_S)
        reply = wire.read()
        assert 0 < len(reply.body) < int(reply.headers["content-length"])
        assert wire.ended()


@pytest.mark.slow
def test_client_that_reads_slowly_is_not_disconnected(gateway: GatewayProcess) -> None:
    with Wire(gateway) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        wire.send(large_answer(600))
        size, begun = 0, time.monotonic()
        while size < 6_000_000 and time.monotonic() - begun < 4 * SLOW_READER_S:
            size += len(wire.socket.recv(100_000))
            time.sleep(0.05)
        assert time.monotonic() - begun > SLOW_READER_S


class Others:
    """Another client, which measures its longest wait."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.longest_s = 0.0

    def _ask(self) -> None:
        while not self._over.is_set():
            with Wire(self._gateway) as wire:
                while not self._over.is_set() and not self._is_closed(wire):
                    begun = time.monotonic()
                    assert wire.send(doubled(1)).read().status == 200
                    self.longest_s = max(self.longest_s, time.monotonic() - begun)
                    time.sleep(0.001)

    @staticmethod
    def _is_closed(wire: Wire) -> bool:
        """As it is where this process, busy with an answer, has not asked for five seconds."""
        return bool(select.select([wire.socket], [], [], 0)[0])

    def __enter__(self) -> "Others":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


TURNS = 5  # of which the best counts: what a busy machine adds to the others is not the gateway's doing
CLASSES = [{"name": "y", "parameters": {"classification": WIDTH}}]
COSTLY: dict[str, tuple[str, Callable[[], bytes], int, str]] = {
    "classes of many rows": (
        "wide",
        lambda: flat(["1.5"] * 20_000, [20_000, 1], outputs=CLASSES),
        400,
        "limits.classes",
    ),
    "many numbers": ("total", lambda: flat(["0"] * 7_000_000, [7_000_000]), 200, '"data":[0.0]'),
    "small objects": ("total", lambda: b'{"inputs":[%b]}' % b",".join([b"{}"] * 5_000_000), 413, "limits.values"),
    "objects": ("total", lambda: b'{"inputs":[%b]}' % b",".join([b'{"a":1}'] * 1_900_000), 413, "limits.values"),
    "lists": ("total", lambda: b'{"a":[%b]}' % b",".join([b"[]"] * 5_000_000), 413, "limits.values"),
    "texts": ("total", lambda: b'{"a":[%b]}' % b",".join([b'""'] * 5_000_000), 413, "limits.values"),
    "many inputs": (
        "total",
        lambda: b'{"inputs":[%b]}' % b",".join([b'{"name":"a","shape":[1],"datatype":"FP32","data":[1]}'] * 250_000),
        413,
        "limits.values",
    ),
    "inputs just below the limit": (
        "total",
        lambda: (
            b'{"inputs":[%b]}'
            % b",".join(b'{"name":"%d","shape":[1],"datatype":"FP32","data":[1]}' % number for number in range(60_000))
        ),
        413,
        "1000 inputs",
    ),
    "requested outputs": (
        "total",
        lambda: flat(["1"], [1], outputs=[{"name": str(number)} for number in range(100_000)]),
        413,
        "1000 inputs and 1000 outputs",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTLY)
def test_costly_request_does_not_block_the_event_loop(gateway: GatewayProcess, name: str) -> None:
    """Such requests blocked it for 3 to 25 s, and took up to 2 GiB."""
    model, make, status, said = COSTLY[name]
    body, before = make(), peak_mib(gateway)
    waits_s: list[float] = []
    while len(waits_s) < TURNS and min(waits_s, default=math.inf) > 0.6:
        with Others(gateway) as others, httpx.Client(timeout=60) as client:
            time.sleep(0.1)
            answer = client.post(f"{gateway.url}/v2/models/{model}/infer", content=body)
        assert (answer.status_code, said in answer.text) == (status, True), answer.text[:300]
        waits_s.append(others.longest_s)
    assert min(waits_s) < 0.6, "at most 120 ms were measured, on a busy machine"
    assert peak_mib(gateway) < before + 200


@pytest.mark.slow
def test_deadline_counts_while_a_body_is_decoded(gateway: GatewayProcess) -> None:
    body = flat(["0"] * 7_000_000, [7_000_000], parameters={"timeout": 20_000})
    answer = httpx.post(f"{gateway.url}/v2/models/total/infer", content=body, timeout=60)
    assert (answer.status_code, "deadline passed" in answer.text) == (504, True), answer.text


@pytest.mark.slow
def test_compressed_bodies_count_by_their_decompressed_size(gateway: GatewayProcess) -> None:
    """4 KiB become 4 MiB, and these wait for each other to be decoded."""
    before = peak_mib(gateway)
    squeezed = gzip.compress(flat(["0"] * 2_000_000, [2_000_000]))
    request = post("total", squeezed, "Content-Encoding: gzip")
    wires = [Wire(gateway).send(request) for _ in range(40)]
    statuses = [wire.read().status for wire in wires]
    for wire in wires:
        wire.close()
    assert set(statuses) <= {200, 503, 504}
    assert statuses.count(200) > 0
    assert peak_mib(gateway) < before + 150


@pytest.mark.slow
def test_large_answer_does_not_block_the_event_loop_and_is_complete(gateway: GatewayProcess) -> None:
    rows = 2000
    outputs = [{"name": "y", "parameters": {"binary_data": True}}]
    url = f"{gateway.url}/v2/models/wide/infer"
    with Others(gateway) as others, httpx.Client(timeout=60) as client:
        one = client.post(url, content=flat(["1.5"], [1, 1])).json()["outputs"][0]
        waits_s = []
        for _ in range(1 + TURNS):  # the first by the short way, by which nothing is known of the answer's size
            others.longest_s = 0.0
            many = client.post(url, content=flat(["1.5"] * rows, [rows, 1], id="a")).json()
            waits_s.append(others.longest_s)
        raw = client.post(url, content=flat(["1.5"] * rows, [rows, 1], outputs=outputs))
    assert (many["id"], many["outputs"][0]["shape"]) == ("a", [rows, WIDTH])
    assert many["outputs"][0]["data"] == one["data"] * rows
    length = int(raw.headers["inference-header-content-length"])
    assert len(raw.content) - length == 4 * rows * WIDTH
    assert min(waits_s[1:]) < 0.13, "165 ms were measured where it was written on the loop"
