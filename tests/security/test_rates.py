"""limits.rate with real workers: a customer that sends too much has to wait, and no one else."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.processes.flawed import metric
from tests.security.guarded import INFER, Guarded, bearer, document, guarded

RATE = 40
SECONDS = 4
CONNECTIONS = 8
WINDOW_S = 10  # of six requests a minute


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder: Path = tmp_path_factory.mktemp("limited")
    rate = {"customers": {"acme": f"{RATE}/s"}, "default": "2/s"}
    started = guarded(folder, limits={"rate": rate})
    with started.gateway:
        yield started


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A gateway without keys, where customers are who they claim to be."""
    folder: Path = tmp_path_factory.mktemp("claimed")
    started = guarded(folder, auth={}, limits={"rate": {"default": "6/m"}})
    with started.gateway:
        yield started


def offer(running: Guarded, caller: str, until_s: float) -> Counter[int]:
    """The statuses of requests sent one after the other on one connection, which belongs to one worker."""
    statuses: Counter[int] = Counter()
    with httpx.Client(base_url=running.gateway.url, headers=bearer(running.keys[caller]), timeout=30) as client:
        while time.monotonic() < until_s:
            statuses[client.post(INFER, content=document()).status_code] += 1
    return statuses


def test_customer_gets_its_rate_over_all_workers(limited: Guarded) -> None:
    """Connections go to both workers; each by itself would admit as much as both together may."""
    started = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = list(pool.map(lambda _: offer(limited, "predictor", started + SECONDS), range(CONNECTIONS)))
    statuses = sum(found, Counter[int]())
    elapsed_s = time.monotonic() - started
    assert statuses.keys() == {200, 429}, statuses
    assert RATE * (SECONDS - 1) <= statuses[200] <= RATE * (elapsed_s + 1) + 2, statuses
    control = {"headers": bearer(limited.keys["reader"])}
    text = httpx.get(f"{limited.gateway.control_url}/metrics", **control).text
    assert f'gateway_shed_total{{reason="rate"}} {float(statuses[429])}' in text


def test_refusal_states_the_rate_and_retry_after(limited: Guarded) -> None:
    answers = (limited.infer("globex") for _ in range(100))
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json() == {
        "error": "more than 2 requests per second, this customer's limit (limits.rate); try again later"
    }
    wait_s = int(refused.headers["retry-after"])
    assert wait_s == 1
    time.sleep(wait_s)
    assert limited.infer("globex").status_code == 200


def test_requests_other_than_predictions_are_not_limited(limited: Guarded) -> None:
    statuses = {
        limited.ask("globex", "GET", f"{limited.gateway.url}/v2/models/flawed").status_code for _ in range(20)
    } | {httpx.get(f"{limited.gateway.url}/v2/health/ready").status_code for _ in range(20)}
    assert statuses == {200}


def test_without_keys_the_rate_applies_to_the_claimed_customer(claimed: Guarded) -> None:
    """One per ten seconds for each customer, and one for all requests without a customer."""
    left_s = WINDOW_S - time.monotonic() % WINDOW_S
    if left_s < 5:  # just behind a window's border another one may come in
        time.sleep(left_s)
    for body, headers in (
        (document(), {"x_customer_id": "acme"}),
        (document(customer="globex"), {}),
        (document(), {}),
        (document().ljust(200_000), {"x_customer_id": "large"}),
    ):
        answers = [claimed.infer(None, body, **headers) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 429, 429, 429]
        assert all(1 <= int(answer.headers["retry-after"]) <= 10 for answer in answers[1:])
    assert metric(claimed.gateway, "gateway_shed_total", reason="rate") == 12
    assert metric(claimed.gateway, "gateway_predictions_total", outcome="ok") == 4
