"""The card shows where versions come from, on every screen, whatever the files beside a model say."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import listened
from tests.browser.test_look import SCREENS, assert_it_fits, problems
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

MODELS = Path(__file__).parents[2] / "models"
NOTHING = "\N{EN DASH}"
HOSTILE = "<img src=x onerror=\"document.title='taken over'\">\u202e" + "W" * 300
ORIGIN = {
    "registry": "mlflow",
    "url": "http://mlflow.example:5000",
    "model": "digits",
    "version": "7",
    "run_id": "ab" * 16,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """digits with a candidate from a registry, and tickets whose files are hostile."""
    folder = tmp_path_factory.mktemp("provenance")
    for name in ("digits", "tickets"):
        shutil.copytree(MODELS / name, folder / "models" / name)
    (folder / "models/digits/2/origin.json").write_text(json.dumps(ORIGIN))
    training = {
        "data": HOSTILE,
        "data_sha256": HOSTILE,
        "estimator": HOSTILE,
        "revision": HOSTILE,
        "train_rows": "many",
    }
    (folder / "models/tickets/2/training.json").write_text(json.dumps(training))
    origin = ORIGIN | {"url": "javascript:document.title='taken over'", "model": HOSTILE, "run_id": HOSTILE}
    (folder / "models/tickets/2/origin.json").write_text(json.dumps(origin))
    (folder / "models/tickets/1/training.json").write_text("[" * 10_000)
    routing = {"models": {name: {"stable": 1, "candidate": 2} for name in ("digits", "tickets")}}
    with GatewayProcess(folder, folder / "models", routing) as started:
        yield started


@pytest.fixture(params=[SCREENS[0], SCREENS[3]], ids=str)
def screen(request: pytest.FixtureRequest, browser: Browser, complaints: list[str]) -> Iterator[Page]:
    scheme, width, height = request.param
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    yield listened(context.new_page(), complaints)
    context.close()
    assert complaints == []


def test_the_card_says_where_both_versions_come_from(running: GatewayProcess, screen: Page) -> None:
    screen.goto(running.control_url)
    shown = screen.locator("#model-digits .provenance")
    for row, cells in (
        ("Registry", [NOTHING, "mlflow digits 7"]),
        ("Run", [NOTHING, "ab" * 16]),
        ("Data set", ["scikit-learn load_digits faf2d98f6125…", "scikit-learn load_digits faf2d98f6125…"]),
        ("Estimator", ["logistic regression on 300 rows", "neural network, 64 hidden units"]),
        ("Held-out rows", ["88.3% of 540 right", "97.4% of 540 right"]),
    ):
        expect(shown.get_by_role("row", name=row).get_by_role("cell")).to_have_text(cells)
    link = shown.get_by_role("link")
    expect(link).to_have_attribute("href", "http://mlflow.example:5000/#/models/digits/versions/7")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    hostile = screen.locator("#model-tickets .provenance")
    expect(hostile.get_by_role("row", name="Estimator")).to_contain_text("<img src=x onerror=")
    expect(hostile.get_by_role("row", name="Problem")).to_contain_text("training.json is not valid JSON")
    expect(hostile.get_by_role("row", name="Problem")).to_contain_text("url must be http or https")
    expect(hostile.locator("img, a")).to_have_count(0)
    assert "taken over" not in screen.title()
    assert problems(screen) == []
    assert_it_fits(screen)
