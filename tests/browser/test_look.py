"""The console for everyone: light, dark and a phone, readable by axe's rules, with and without what is optional."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import listened
from tests.running import GatewayProcess

ROOT = Path(__file__).parents[2]
SCREENS: list[Any] = [("light", 1360, 900), ("dark", 1360, 900), ("light", 375, 740), ("dark", 375, 740)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The shipped models: one stopped, one that runs, and a routing file with a mistake in it."""
    folder = tmp_path_factory.mktemp("look")
    started = GatewayProcess(folder, ROOT / "models")
    shutil.copy(ROOT / "config" / "routing.yaml", folder / "routing.yaml")
    with started:
        httpx.post(f"{started.control_url}/api/releases/tumor/stop", json={"reason": "a test"})
        (folder / "routing.yaml").write_text("models: {digits: {stabel: 1}}")
        yield started


@pytest.fixture(params=SCREENS, ids=str)
def screen(request: pytest.FixtureRequest, browser: Browser, complaints: list[str]) -> Iterator[Page]:
    scheme, width, height = request.param
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    yield listened(context.new_page(), complaints)
    context.close()
    assert complaints == []


def problems(page: Page) -> list[str]:
    """What axe finds, of any weight, each with the elements that have it."""
    violations = Axe().run(page).response["violations"]
    return [f"{found['id']}: {[node['target'] for node in found['nodes']]}" for found in violations]


def assert_it_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_everyone_can_read_and_use_it(running: GatewayProcess, screen: Page) -> None:
    screen.goto(running.control_url)
    expect(screen.locator("#config-error")).to_be_visible()
    expect(screen.locator("#model-tumor .stage")).to_have_text("stopped")
    screen.locator("#what-if summary").click()
    screen.locator("#what-if button").click()
    expect(screen.locator("#what-if-answer")).to_contain_text("each prediction falls by chance")
    assert problems(screen) == []
    assert_it_fits(screen)
    screen.get_by_role("button", name="Resume tumor").click()
    assert problems(screen) == []


def test_ramp_evidence_and_accuracy_are_shown_where_the_gateway_tells_them(
    running: GatewayProcess, screen: Page
) -> None:
    """The document is the gateway's own, with what it does not tell yet put in."""

    def with_more(route: Route) -> None:
        first = httpx.get(f"{running.control_url}/api/releases").json()
        config = httpx.get(f"{running.control_url}/api/config").json()
        first[0] |= MORE
        for version in first[0]["versions"]:
            version |= {"accuracy": 0.934, "labelled": 1200, "reward_mean": None}
        data = json.dumps({"time_ns": 1, "releases": first, "config": config, "decisions": []})
        route.fulfill(content_type="text/event-stream", body=f"event: snapshot\ndata: {data}\n\n")

    screen.route("**/api/events", with_more)
    screen.goto(running.control_url)
    card = screen.locator("#model-digits")
    expect(card.locator(".ramp [aria-current=step]")).to_have_text("5%")
    expect(card.locator(".ramp")).to_contain_text("next step in 4 min at the earliest. Waiting for proof of no harm.")
    expect(card.locator(".guard[data-verdict=harmful]")).to_contain_text("slow")
    expect(card).to_contain_text("93.4%")
    expect(card).to_contain_text("about 14,900 requests")
    assert problems(screen) == []
    assert_it_fits(screen)


MORE: dict[str, Any] = {
    "ramp": {
        "stage": "ramping", "step": 2, "weights": [0.1, 1, 5, 25, 50, 100], "weight_percent": 5,
        "next_step_in_s": 221, "waiting_for": "proof of no harm",
    },
    "guards": [
        {"name": "errors", "metric": "failures", "verdict": "safe", "log10_e": -1.2, "line_log10": 2, "action": "stop"},
        {"name": "slow", "metric": "slow_requests", "verdict": "harmful", "log10_e": 2.3, "line_log10": 2,
         "action": "stop"},
        {"name": "accuracy", "metric": "wrong_feedback", "verdict": "inconclusive", "log10_e": 1.1, "line_log10": 2,
         "action": "stop"},
        {"name": "drift", "metric": "predicted_class", "verdict": "no-data", "log10_e": None, "line_log10": 2,
         "action": "pause"},
    ],
    "forecast": {"requests_to_notice_doubling": 14900.0},
}  # fmt: skip


def test_a_key_is_asked_for_where_one_is_wanted(running: GatewayProcess, page: Page, complaints: list[str]) -> None:
    """The door stands in for keys: it lets through who says the right one."""

    def door(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": "this key is not known"})

    page.route("**/api/**", door)
    page.goto(running.control_url)
    form = page.locator("#key-form")
    form.get_by_label("API key").fill("wrong")
    form.get_by_role("button", name="Use this key").click()
    expect(form).to_contain_text("this key is not known")
    form.get_by_label("API key").fill("right")
    form.get_by_role("button", name="Use this key").click()
    expect(page.locator("#contact")).to_have_attribute("data-state", "live")
    expect(form).to_be_hidden()
    assert page.evaluate("JSON.stringify([localStorage.length, document.cookie])") == '[0,""]'
    page.get_by_role("button", name="Forget the key").click()
    expect(form).to_be_visible()
    assert all("401" in complaint for complaint in complaints)
    complaints.clear()


def test_a_gateway_that_is_gone_is_said_to_be(tmp_path: Path, page: Page, complaints: list[str]) -> None:
    with GatewayProcess(tmp_path, ROOT / "models") as gone:
        page.goto(gone.control_url)
        expect(page.locator("#contact")).to_have_attribute("data-state", "live")
    expect(page.locator("#contact")).to_contain_text("No contact since")
    assert all("ERR_CONNECTION_REFUSED" in complaint for complaint in complaints)
    complaints.clear()


def test_it_comes_from_here_and_runs_nothing_else(running: GatewayProcess) -> None:
    page = httpx.get(f"{running.control_url}/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    for file in (ROOT / "gateway" / "web" / "console").iterdir():
        served = httpx.get(f"{running.control_url}/console/{file.name}" if file.name != "index.html" else str(page.url))
        assert (served.status_code, served.content) == (200, file.read_bytes())
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text
