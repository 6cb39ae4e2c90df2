"""`gateway propose` on a running gateway: a version becomes the candidate, or nothing of it is left, even by a kill."""

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest
import yaml

from gateway.control.config.file_snapshot import revision_of
from gateway.control.proposals.journal import STAGED_PREFIX
from tests.backends import onnx_models
from tests.backends.onnx_models import needs_trap
from tests.cli.test_download import Server, serving
from tests.control.proposals.test_tar_stream import archive, with_entry
from tests.processes.flawed import kill, until
from tests.processes.test_commands import command
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LIMIT = 1 << 20
Digits = tuple[GatewayProcess, Path]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Digits]:
    """A gateway that serves version 1 of digits, and a model that nobody has named."""
    folder = tmp_path_factory.mktemp("propose")
    with started(folder) as running:
        yield running, folder / "models" / "digits"


def started(folder: Path) -> GatewayProcess:
    digits = folder / "models" / "digits"
    if not digits.exists():
        shutil.copytree(ROOT / "models" / "digits" / "1", digits / "1")
        shutil.copy(ROOT / "models" / "digits" / "model.yaml", digits)
    routing = {"models": {"digits": {"stable": 1}}}
    gateway = GatewayProcess(folder, folder / "models", routing)
    settings = yaml.safe_load(gateway.config.read_text())
    settings["models"]["max_proposal"] = LIMIT
    gateway.config.write_text(yaml.safe_dump(settings))
    return gateway


@pytest.fixture
def digits(shared: Digits) -> Iterator[Digits]:
    """As shared; whatever a test does, version 1 is stable and alone afterwards."""
    running, folder = shared
    yield shared
    unnamed = "  unnamed: {stable: 1}\n" if (folder.parent / "unnamed").exists() else ""
    file_of(running).write_text(f"models:\n  digits:\n    stable: 1\n{unnamed}")
    until(lambda: in_force(running), "the file is in force")
    for version in versions(folder)[1:]:
        shutil.rmtree(folder / version)


def in_force(running: GatewayProcess) -> bool:
    config = httpx.get(f"{running.control_url}/api/config").json()
    return bool(config["revision"] == revision_of(file_of(running).read_bytes()))


def file_of(running: GatewayProcess) -> Path:
    return running.config.parent / "routing.yaml"


def versions(folder: Path) -> list[str]:
    """The folders of the model, hidden ones too."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def release(running: GatewayProcess) -> Any:
    return httpx.get(f"{running.control_url}/api/releases/digits").json()


def post(running: GatewayProcess, content: Any, **query: Any) -> httpx.Response:
    url, headers = f"{running.control_url}/api/releases/digits/propose", {"content-type": "application/x-tar"}
    return httpx.post(url, params=query, content=content, headers=headers, timeout=60)


def shipped(*names: str) -> bytes:
    """An archive of the shipped second version."""
    folder = ROOT / "models" / "digits" / "2"
    return archive({name: (folder / name).read_bytes() for name in names or ("model.onnx", "training.json")})


def other_model() -> bytes:
    """An archive of a model that answers as the shipped second version does: only its text of documentation differs."""
    model = (ROOT / "models" / "digits" / "2" / "model.onnx").read_bytes() + b"\x32\x05other"
    return archive({"model.onnx": model, "training.json": b"{}"})


def answering(running: GatewayProcess, count: int = 40) -> set[int]:
    """The versions that answer."""
    body = {"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}]}
    with httpx.Client(base_url=running.url) as client:
        answers = [client.post("/v2/models/digits/infer", json=body).json() for _ in range(count)]
    return {int(answer["model_version"]) for answer in answers}


def order(running: GatewayProcess, what: str) -> int:
    return httpx.post(f"{running.control_url}/api/releases/digits/{what}", json={}, timeout=60).status_code


def test_a_proposed_version_meets_traffic_is_replaced_stopped_and_promoted(digits: Digits) -> None:
    running, folder = digits
    words = ("propose", "digits", str(ROOT / "models" / "digits" / "2"), "--weight", "50")
    done = command(running.config, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "+    candidate: 2\n" in done.stdout
    assert "version 2 of digits (2 files, 0.0 MiB) is the candidate\ntraffic: everyone 50%\n" in done.stdout
    assert (folder / "2" / "model.onnx").read_bytes() == (ROOT / "models/digits/2/model.onnx").read_bytes()
    assert answering(running) == {1, 2}
    refused = post(running, shipped())
    assert (refused.status_code, "candidate 2 of 'digits' is under way" in refused.text) == (409, True)
    assert order(running, "stop") == 200
    refused = post(running, shipped(), version=7)
    assert (refused.status_code, "it is the model of version 2, which local has stopped" in refused.text) == (409, True)
    assert versions(folder) == ["1", "2"]
    replaced = post(running, other_model(), version=7, reason="a mistake").json()  # what is stopped is not under way
    assert (replaced["version"], replaced["replaced"], replaced["files"]) == (7, 2, 2)
    decision, evidence = replaced["decision"], replaced["decision"]["evidence"]
    assert (decision["action"], decision["candidate"], decision["by"]) == ("propose", 7, "local")
    assert decision["reason"] == "a mistake"
    assert [file["path"] for file in evidence["files"]] == ["model.onnx", "training.json"]
    assert evidence["bytes"] == sum(path.stat().st_size for path in (folder / "7").iterdir())
    assert release(running)["routes"][0]["weight_percent"] == 50
    assert "candidate 7 of 'digits' is under way" in post(running, shipped()).text
    assert "version 2 of 'digits' is stopped" in post(running, shipped(), version=2, replace=True).text
    assert "is there already" in post(running, shipped(), version=7, replace=True).text

    shutil.rmtree(folder / "1")  # a version in force is nobody's to bring, even if its folder is gone
    assert "is there already" in post(running, shipped(), version=1, replace=True).text
    shutil.copytree(ROOT / "models" / "digits" / "1", folder / "1")
    assert versions(folder) == ["1", "2", "7"]
    assert order(running, "promote") == 200
    assert answering(running) == {7}


def test_a_version_is_fetched_from_an_address(digits: Digits) -> None:
    running, folder = digits
    with serving(Server()) as store:
        address = f"{store.url}/v.tar"
        done = command(running.config, "propose", "digits", f"{address}?signature=abc", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        proposed = json.loads(done.stdout)
        assert (proposed["files"], proposed["decision"]["reason"]) == (1, f"from {address}")
        refused = command(running.config, "propose", "digits", address, "--sha256", "0" * 64, "--replace")
        assert (refused.returncode, "not 0000" in refused.stderr) == (1, True)
    number = str(proposed["version"])  # not 2 where that was stopped before
    assert (folder / number / "model.onnx").read_bytes() == (ROOT / "models/digits/2/model.onnx").read_bytes()
    assert versions(folder) == ["1", number]


def broken(make: Callable[[Path], Path]) -> Callable[[Path], bytes]:
    return lambda folder: archive({"model.onnx": make(folder / "made.onnx").read_bytes()})


def other_inputs(path: Path) -> Path:
    """The shipped second version, whose input has another name."""
    model = onnx.load(ROOT / "models" / "digits" / "2" / "model.onnx")
    name, model.graph.input[0].name = model.graph.input[0].name, "picture"
    for node in model.graph.node:
        node.input[:] = ["picture" if one == name else one for one in node.input]
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("make", "status", "says"),
    [
        (broken(other_inputs), 409, "'picture'"),
        pytest.param(broken(onnx_models.crashing), 409, "killed the process by SIGFPE", marks=needs_trap),
        (lambda folder: archive({"model.onnx": b"", "../../evil": b"1"}), 400, "leads out of the version's folder"),
        (lambda folder: with_entry("model.onnx", type=b"2", linkname="../1/model.onnx"), 400, "a symbolic link"),
        (lambda folder: with_entry("model.onnx", type=b"3"), 400, "a device"),
        (lambda folder: archive({"model.onnx": bytes(LIMIT + 1)}), 413, "models.max_proposal, 1048576 bytes"),
        (lambda folder: with_entry("f")[:512] * 17_000, 400, "holds f twice"),
        (lambda folder: b"".join(with_entry(f"f{n}")[:512] for n in range(1001)), 400, "more than 1000 files"),
        (lambda folder: shipped()[:20_000], 400, "cut off"),
        (
            lambda folder: archive({"model.onnx": b"", "model.yaml": b"threads: 64"}),
            400,
            "belong to the model's folder",
        ),
    ],
)
def test_what_is_refused_leaves_nothing(
    digits: Digits, tmp_path: Path, make: Callable[[Path], bytes], status: int, says: str
) -> None:
    running, folder = digits
    text = file_of(running).read_text()
    refused = post(running, make(tmp_path), weight=10)
    assert (refused.status_code, says in refused.json()["error"]) == (status, True), refused.text
    assert (versions(folder), file_of(running).read_text()) == (["1"], text)
    assert not (running.config.parent / "state" / "proposal.json").exists()
    assert not (folder.parent / "evil").exists()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"weight": 101}, "weight"),
        ({"weight": 5, "ramp": True}, "both weight and ramp"),
        ({"version": 0}, "version"),
        ({"wait": 5}, "wait"),
    ],
)
def test_wrong_parameters_are_refused(digits: Digits, query: dict[str, Any], says: str) -> None:
    refused = post(digits[0], shipped(), **query)
    assert (refused.status_code, says in refused.json()["error"]) == (400, True)


def test_a_body_of_another_type_is_refused(digits: Digits) -> None:
    url = f"{digits[0].control_url}/api/releases/digits/propose"
    refused = httpx.post(url, json={})
    assert (refused.status_code, "application/x-tar" in refused.json()["error"]) == (415, True)


class SlowUpload:
    """A proposal of which only the first half has been sent."""

    def __init__(self, running: GatewayProcess, model: str = "digits") -> None:
        self._body = shipped()
        port = int(running.control_url.rpartition(":")[2])
        self.socket = socket.create_connection(("127.0.0.1", port))
        head = f"POST /api/releases/{model}/propose?weight=0 HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Connection: close\r\nContent-Type: application/x-tar\r\nContent-Length: {len(self._body)}\r\n\r\n"
        self.socket.sendall(head.encode() + self._body[:2048])

    def finish(self) -> bytes:
        """Send the rest; returns the whole answer, after which the gateway closes the connection."""
        with self.socket:
            self.socket.settimeout(60)
            self.socket.sendall(self._body[2048:])
            return b"".join(iter(lambda: self.socket.recv(65536), b""))


def staged(folder: Path) -> bool:
    return any(name.startswith(STAGED_PREFIX) for name in versions(folder))


def test_of_two_at_once_one_wins_and_the_other_is_told(digits: Digits) -> None:
    """The winner is the first candidate of a model that nobody has named yet."""
    running, folder = digits
    unnamed = folder.parent / "unnamed"
    shutil.copytree(folder, unnamed)
    first = SlowUpload(running, "unnamed")
    until(lambda: staged(unnamed), "the first has begun")
    refused = post(running, shipped())
    assert (refused.status_code, "a version of 'unnamed' is being proposed now" in refused.text) == (409, True)
    answer = first.finish()
    assert answer.startswith(b"HTTP/1.1 200")
    assert rb"+  unnamed:\n+    stable: 1\n+    candidate: 2\n" in answer
    assert b"it gets no traffic yet; to give it some: gateway weight unnamed everyone 5" in answer
    assert (versions(folder), versions(unnamed)) == (["1"], ["1", "2"])
    url = f"{running.control_url}/api/releases/nothing/propose"
    nothing = httpx.post(url, headers={"content-type": "application/x-tar"})
    assert (nothing.status_code, "there is no model 'nothing'; there are digits, unnamed" in nothing.text) == (
        404,
        True,
    )


def test_a_client_that_disconnects_leaves_nothing(digits: Digits) -> None:
    running, folder = digits
    first = SlowUpload(running)
    until(lambda: staged(folder), "it has begun")
    first.socket.close()
    until(lambda: not staged(folder), "it is removed")


@pytest.mark.parametrize("moment", ["placed", "named"])
def test_a_kill_leaves_a_whole_version_or_none(digits: Digits, moment: str) -> None:
    gateway, folder = digits
    threading.Thread(target=post_until_killed, args=(gateway,)).start()
    placed, text = folder / "20", file_of(gateway)
    until(placed.exists if moment == "placed" else lambda: "    candidate" in text.read_text(), moment)
    kill(gateway.pid)
    assert gateway.process is not None
    gateway.process.wait()
    gateway.__enter__()
    check_restarted(gateway, folder)


def post_until_killed(gateway: GatewayProcess) -> None:
    with suppress(httpx.TransportError):
        post(gateway, shipped(), version=20)


def check_restarted(gateway: GatewayProcess, folder: Path) -> None:
    """After a kill and a start: what is there is whole, and the next proposal is not blocked."""
    named = release(gateway)["candidate"]
    assert versions(folder) == (["1"] if named is None else ["1", "20"])
    if named is not None:
        assert (folder / "20" / "model.onnx").read_bytes() == (ROOT / "models/digits/2/model.onnx").read_bytes()
    assert answering(gateway, 4) == {1}
    refused = post(gateway, with_entry("x", type=b"2"), replace=True)
    assert "a symbolic link" in refused.text
    assert not staged(folder)
