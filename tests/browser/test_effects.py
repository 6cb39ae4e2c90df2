"""The console answers "is it better?" with a picture that people with any screen, and none, can read."""

import random
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_look import ROOT, assert_it_fits, predicted, problems, screen
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
__all__ = ["screen"]  # a fixture

ROUTES = [{"name": "staff", "match": [{"headers": {"x-group": {"in": ["staff"]}}}], "weight": 50}]
REVENUE = {"name": "revenue", "metric": "metrics.revenue", "range": [0, 10], "direction": "decrease"}
SLOW = {"name": "slow", "metric": "slow_requests", "threshold": "0.01ms"}  # all are slow, of both versions
RELEASE: Any = {
    "stable": 1,
    "candidate": 2,
    "split": {"stickiness": "prediction", "routes": [*ROUTES, {"name": "everyone", "weight": 50}]},
    "guards": {"comparisons": [REVENUE, SLOW]},
}
OUTCOMES = 400


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """digits, whose candidate earns more; its truths are as if both versions were always right."""
    folder, chance = tmp_path_factory.mktemp("judged"), random.Random(1)
    with GatewayProcess(folder, ROOT / "models", {"models": {"digits": RELEASE}}) as started:
        with httpx.Client(base_url=started.url) as client:
            said = [one_outcome(client, chance) for _ in range(OUTCOMES)]
            assert client.post("/v2/feedback", json=said).json()["accepted"] == OUTCOMES
        yield started


def one_outcome(client: httpx.Client, chance: random.Random) -> Any:
    pixels = [float(chance.randrange(17)) for _ in range(64)]
    image = {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": pixels}
    group = chance.choice(["staff", "others"])
    answer = client.post("/v2/models/digits/infer", json={"inputs": [image]}, headers={"x-group": group}).json()
    revenue = 6.0 + chance.random() if answer["model_version"] == "2" else 3.0 + chance.random()
    metrics = {"revenue": revenue, "clicks": chance.random(), "x" * 100: 1.0}  # a long name still fits
    prediction = answer["parameters"]["prediction_id"]
    return {"prediction_id": prediction, "truth": predicted(answer), "metrics": metrics}


def test_console_shows_whether_the_candidate_is_better(judged: GatewayProcess, screen: Page) -> None:
    screen.goto(judged.control_url)
    card = screen.locator("#model-digits")
    expect(card.get_by_role("row", name="Accuracy")).to_contain_text("100%")
    revenue = card.get_by_role("img", name="revenue: +")
    expect(revenue).to_be_visible()
    row = card.locator(".difference", has=screen.get_by_role("img", name="revenue: +"))
    expect(row.locator(".verdict")).to_have_text("better")
    point, zero = (revenue.locator(f".{name}").bounding_box() for name in ("point", "zero"))
    assert point and zero and point["x"] > zero["x"] + 20, "better is right of zero"
    expect(card.get_by_role("img", name="clicks: ")).to_have_attribute("aria-label", re.compile("not known yet"))
    slow = card.locator(".difference", has=screen.get_by_role("img", name="slow requests: "))
    expect(slow.locator(".verdict")).to_have_text(re.compile("^(no worse|not known)$"))  # of 400, by chance
    expect(slow).to_contain_text("×, between 0.")
    bar, middle = (slow.locator(f".{name}").bounding_box() for name in ("interval", "zero"))
    assert bar and middle and bar["x"] < middle["x"] < bar["x"] + bar["width"], "once as often is in the middle"
    expect(card.get_by_role("img", name="revenue on staff: +")).to_be_hidden()
    for title in ("By route", "Feedback by route", "Recall by class"):
        card.get_by_text(title, exact=True).click()
    expect(card.get_by_role("img", name="revenue on staff: +")).to_be_visible()
    expect(card.get_by_role("img", name="slow requests on staff: ")).to_be_visible()
    expect(card.get_by_role("region", name="digits: feedback by route")).to_contain_text("staff")
    expect(card.get_by_role("region", name="digits: recall by class")).to_contain_text("100%")
    assert problems(screen) == []
    assert_it_fits(screen)
