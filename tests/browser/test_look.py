"""The console in light, dark and phone layouts: accessible by axe's rules, with and without optional parts."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import listened
from tests.running import GatewayProcess
from tests.security.guarded import guarded, left_behind

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GONE = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE_CHUNKED_ENCODING")
SCREENS: list[Any] = [("light", 1360, 900), ("dark", 1360, 900), ("light", 375, 740), ("dark", 375, 740)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The shipped models: one stopped, one running, and a routing file with a mistake in it."""
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
    """The violations that axe finds, of any impact, each with the elements concerned."""
    violations = Axe().run(page).response["violations"]
    return [f"{found['id']}: {[node['target'] for node in found['nodes']]}" for found in violations]


def assert_it_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_console_is_accessible_and_fits_every_screen(running: GatewayProcess, screen: Page) -> None:
    screen.goto(running.control_url)
    expect(screen.locator("#config-error")).to_be_visible()
    expect(screen.locator("#model-tumor .stage")).to_have_text("stopped")
    expect(screen.locator("#model-tumor .incomparable")).to_contain_text("stable may run on the event loop")
    expect(screen.locator("#model-digits .incomparable")).to_be_hidden()  # it has a guard slow_requests
    screen.locator("#what-if summary").click()
    screen.locator("#what-if button").click()
    expect(screen.locator("#what-if-answer")).to_contain_text("each prediction is assigned at random")
    assert problems(screen) == []
    assert_it_fits(screen)
    screen.get_by_role("button", name="Resume tumor").click()
    assert problems(screen) == []


def test_release_card_shows_ramp_guards_and_accuracy(ramping: GatewayProcess, screen: Page) -> None:
    screen.goto(ramping.control_url)
    card = screen.locator("#model-digits")
    expect(card.locator(".stage")).to_have_text("ramping")
    expect(card.locator(".ramp [aria-current=step]")).to_have_text("25%")
    expect(card.locator("[data-route=everyone]")).to_have_attribute("data-percent", "25")
    for guard in ("errors", "slow", "accuracy", "drift"):
        expect(card.locator(".guard", has_text=guard)).to_be_visible()
    expect(card.get_by_role("row", name="Accuracy")).to_contain_text("100%")
    expect(card.locator(".guard", has_text="errors")).to_contain_text(re.compile("no (failures|requests)"))
    card.get_by_text("Routes and customers").click()
    expect(card.get_by_role("row", name=re.compile("^everyone 40 "))).to_be_visible()
    assert problems(screen) == []
    assert_it_fits(screen)
    card.get_by_role("button", name="Hold the ramp of digits").click()
    expect(card.locator(".stage")).to_have_text("held")
    assert problems(screen) == []
    card.get_by_role("button", name="Continue the ramp of digits").click()
    expect(card.locator(".stage")).to_have_text("ramping")


@pytest.fixture(scope="module")
def ramping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """digits on a ramp with every kind of guard, and with predictions that feedback confirmed."""
    folder = tmp_path_factory.mktemp("ramping")
    with GatewayProcess(folder, ROOT / "models", RAMPING) as started:
        name = httpx.get(f"{started.url}/v2/models/digits").json()["inputs"][0]["name"]
        rows = {"name": name, "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}
        for number in range(40):
            asked = {"inputs": [rows], "parameters": {"customer": f"c-{number}"}}
            answer = httpx.post(f"{started.url}/v2/models/digits/infer", json=asked).json()
            truth = predicted(answer)
            feedback = {"prediction_id": answer["parameters"]["prediction_id"], "truth": truth}
            assert httpx.post(f"{started.url}/v2/feedback", json=feedback).json()["accepted"] == 1
        yield started


def predicted(answer: Any) -> str:
    output = next(output for output in answer["outputs"] if output["name"] == "probabilities")
    return str(output["data"].index(max(output["data"])))


RAMPING: Any = {
    "models": {
        "digits": {
            "stable": 1,
            "candidate": 2,
            "split": {"routes": [{"name": "everyone", "weight": "ramp"}]},
            "ramp": {"weights": [25, 50, 100], "interval": "10m"},
            "guards": {
                "comparisons": [
                    {"name": "errors", "metric": "failures"},
                    {"name": "slow", "metric": "slow_requests", "threshold": "50ms"},
                    {"name": "accuracy", "metric": "wrong_feedback"},
                    {"name": "drift", "metric": "predicted_class", "action": "pause"},
                ]
            },
        }
    }
}


def test_console_asks_for_a_key_when_the_gateway_requires_one(
    tmp_path: Path, page: Page, complaints: list[str]
) -> None:
    started = guarded(tmp_path)
    with started.gateway:
        page.goto(started.gateway.control_url)
        form = page.locator("#key-form")
        use(page, "wrong")
        expect(form).to_contain_text("the API key is unknown")
        use(page, started.keys["reader"])
        expect(page.locator("#contact")).to_have_attribute("data-state", "live")
        expect(form).to_be_hidden()
        page.get_by_role("button", name="Stop the candidate of flawed").click()
        expect(page.locator(".failure").first).to_contain_text("Not stopped: this needs a key with the scope operate")
        assert page.evaluate("JSON.stringify([localStorage.length, document.cookie])") == '[0,""]'
        page.get_by_role("button", name="Forget key").click()
        use(page, started.keys["operator"])
        page.get_by_role("button", name="Stop the candidate of flawed").click()
        expect(page.locator(".effect")).to_contain_text("in effect")
        expect(page.locator(".why")).to_contain_text("ops")
        assert problems(page) == []
        page.goto("about:blank")  # else the page would go on asking a gateway that has ended
    assert left_behind(started) == []
    assert all(re.search("40[13]|ERR_CONNECTION|ERR_INCOMPLETE", complaint) for complaint in complaints)
    complaints.clear()


def use(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use this key").click()


def test_console_says_when_the_gateway_is_gone(tmp_path: Path, page: Page, complaints: list[str]) -> None:
    with GatewayProcess(tmp_path, ROOT / "models") as gone:
        page.goto(gone.control_url)
        expect(page.locator("#contact")).to_have_attribute("data-state", "live")
    expect(page.locator("#contact")).to_contain_text("Disconnected since")
    page.goto("about:blank")  # it would go on asking
    assert all(any(kind in complaint for kind in GONE) for complaint in complaints)
    complaints.clear()


def test_console_files_are_served_locally_under_a_strict_csp(running: GatewayProcess) -> None:
    page = httpx.get(f"{running.control_url}/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    for file in (ROOT / "gateway" / "control" / "console").iterdir():
        served = httpx.get(f"{running.control_url}/console/{file.name}" if file.name != "index.html" else str(page.url))
        assert (served.status_code, served.content) == (200, file.read_bytes())
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text
