"""Sending feedback to a server that refuses, is busy, or takes smaller lists only."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import orjson
import pytest

from gateway.errors import GatewayError
from gateway.offline.feedback.fields import Entry
from gateway.offline.feedback.sending import GIVE_UP_AFTER_S, Report, Sender, batches


class Server(HTTPServer):
    """Answers with what is next in `answers`, then accepts; `lists` are the lists that came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict[str, str], Any]] = []
        self.lists: list[list[Any]] = []
        self.largest = 10_000


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        entries = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.lists.append(entries)
        status, headers, document = 202, {}, {"accepted": len(entries), "rejected": []}
        if len(entries) > self.server.largest:
            status, document = 413, {"error": "too large"}
        elif self.server.answers:
            status, headers, document = self.server.answers.pop(0)
        body = orjson.dumps(document)
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield started
        started.shutdown()
        thread.join()


def send(server: Server, count: int) -> tuple[Report, list[float], list[tuple[int, str]]]:
    report, waits, rejected = Report(), list[float](), list[tuple[int, str]]()
    entries = (Entry(line, {"prediction_id": f"p{line}", "truth": 1}) for line in range(2, count + 2))
    with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", trust_env=False) as client:
        sender = Sender(client, report, lambda entry, error: rejected.append((entry.line, error)), waits.append)
        for batch in batches(entries):
            sender.send(batch)
    return report, waits, rejected


def test_lists_hold_at_most_ten_thousand(server: Server) -> None:
    report, waits, _ = send(server, 10_001)
    assert [len(one) for one in server.lists] == [10_000, 1]
    assert (report.accepted, report.rejected, waits) == (10_001, 0, [])


def test_rejected_entries_have_the_line_of_the_file(server: Server) -> None:
    server.answers = [(202, {}, {"accepted": 1, "rejected": [{"index": 1, "error": "no class"}],
                                 "uncounted": [{"index": 0, "reason": "had no class"}]})]  # fmt: skip
    report, _, rejected = send(server, 2)
    assert (report.accepted, report.rejected, report.kept) == (1, 1, [(3, "no class")])
    assert rejected == [(3, "no class")]
    assert report.uncounted == {"had no class": 1}


def test_busy_server_is_asked_again_after_the_time_it_names(server: Server) -> None:
    server.answers = [(503, {"retry-after": "7"}, {}), (429, {}, {"error": "rate"})]
    report, waits, _ = send(server, 3)
    assert (report.accepted, waits, len(server.lists)) == (3, [7.0, 1.0], 3)


def test_server_that_stays_busy_is_given_up(server: Server) -> None:
    server.answers = [(503, {"retry-after": "60"}, {})] * 100
    with pytest.raises(GatewayError, match=r"takes no more feedback .*503.* 0 lines were accepted before"):
        send(server, 3)
    assert len(server.lists) == GIVE_UP_AFTER_S / 60 + 1


def test_too_large_list_is_sent_in_halves(server: Server) -> None:
    server.largest = 2
    report, _, _ = send(server, 5)
    assert report.accepted == 5
    assert [len(one) for one in server.lists] == [5, 2, 3, 1, 2]


def test_single_entry_that_is_too_large_is_rejected(server: Server) -> None:
    server.largest = 0
    report, _, rejected = send(server, 2)
    assert (report.accepted, rejected) == (0, [(2, "413: too large"), (3, "413: too large")])


def test_refusal_of_all_is_an_error(server: Server) -> None:
    server.answers = [(401, {}, {"error": "needs a key"})]
    with pytest.raises(GatewayError, match="401: needs a key"):
        send(server, 1)


def test_missing_server_is_an_error() -> None:
    with httpx.Client(base_url="http://127.0.0.1:9", trust_env=False) as client:
        sender = Sender(client, Report(), lambda entry, error: None)
        with pytest.raises(GatewayError, match="no gateway answers at"):
            sender.send([(Entry(1, {}), b"{}")])
