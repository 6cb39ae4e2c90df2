"""HAProxy (a Debian package), twice: a server whose answers are ready in advance, and a load balancer before it.

As a server it answers each inference request with the same bytes, without a look at what was sent: what stands before
it is slower, whatever it is. As a balancer it has a weighted cluster of that server and itself once more, or gateways
on several hosts.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson

from loadtests import canned
from loadtests.canned import ANSWER, MODEL
from loadtests.free_port import free_port
from loadtests.servers import SERVER_CORE, Started, started
from loadtests.wrk import CLIENT_CORE

COMMON: Final = """\
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
"""
SERVER: Final = """\
    option http-buffer-request
frontend server
    bind 127.0.0.1:{port}
    http-request return status 200 content-type application/json file "{folder}/answer" if {{ path_end /infer }}
    http-request return status 200 if {{ path_end /ready }} || {{ path_end /live }}
    http-request return status 200 content-type application/json file "{folder}/model" if {{ path_beg /v2/models/ }}
    http-request return status 200 content-type application/json file "{folder}/server"
"""
BALANCER: Final = """\
    http-reuse always
frontend balancer
    bind 127.0.0.1:{port}
    default_backend cluster
backend cluster
    balance roundrobin
    option httpchk GET /v2/health/ready
    server stable 127.0.0.1:{server} check weight {stable}
    server candidate 127.0.0.1:{server} check weight {candidate}
"""
HOSTS: Final = """\
    option http-buffer-request
frontend front
    bind 127.0.0.1:{port}
    default_backend hosts
backend hosts
    balance roundrobin
    option httpchk GET /v2/health/ready
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response response-timeout
    timeout connect 500ms
    timeout server 2s
    timeout check 500ms
    default-server check inter 200ms fall 2 rise 1
"""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The server of `canned`, on the client's core; yields its URL."""
    folder.mkdir()
    for name, document in (("answer", ANSWER), ("model", MODEL), ("server", canned.SERVER)):
        (folder / name).write_bytes(orjson.dumps(document))
    port = free_port()
    with _running(folder, SERVER.format(port=port, folder=folder), port, int(CLIENT_CORE)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def balancer(folder: Path, url: str, candidate_percent: int) -> Iterator[Started]:
    """The load balancer, on the servers' core."""
    folder.mkdir()
    port = free_port()
    weights = {"stable": 100 - candidate_percent, "candidate": candidate_percent}
    text = BALANCER.format(port=port, server=url.rpartition(":")[2], **weights)
    with _running(folder, text, port, SERVER_CORE) as process:
        yield process


@contextmanager
def before_hosts(folder: Path, addresses: Sequence[str]) -> Iterator[Started]:
    """The load balancer before gateways on several hosts. What one does not answer it asks the next one."""
    folder.mkdir()
    port = free_port()
    lines = [f"    server host{number} {address}" for number, address in enumerate(addresses)]
    with _running(folder, HOSTS.format(port=port) + "\n".join(lines) + "\n", port, SERVER_CORE) as process:
        yield process


@contextmanager
def _running(folder: Path, text: str, port: int, core: int) -> Iterator[Started]:
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        raise SystemExit("haproxy is missing: apt-get install haproxy")
    (folder / "haproxy.cfg").write_text(COMMON + text)
    with started([program, "-db", "-f", str(folder / "haproxy.cfg")], port, core) as process:
        yield process
