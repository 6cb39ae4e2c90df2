"""The HTML report of `gateway analyze` in light, dark and phone layouts: accessible by axe's rules, and fitting."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from gateway.offline.analysis.html_report import page as report_of
from tests.browser.conftest import listened
from tests.browser.test_look import SCREENS, assert_it_fits, problems
from tests.offline.analysis import flawed, planted, test_analyzer, test_planted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of a regression with named features, and of a classification with pictures."""
    folder = tmp_path_factory.mktemp("reports")
    regression = test_planted.analysed(
        planted.regression(), folder / "numbers", planted.NUMBERS, planted.DIABETES_NAMES
    )
    classes = test_analyzer.analysed(flawed.digits(), folder / "classes")
    paths = []
    for name, analysis in (("numbers", regression), ("classes", classes)):
        paths.append(folder / f"{name}.html")
        paths[-1].write_text(report_of(analysis))
    return paths


@pytest.mark.parametrize(("index", "layout"), list(enumerate(SCREENS)), ids=str)
def test_report_is_accessible_and_fits_every_screen(
    reports: list[Path], browser: Browser, complaints: list[str], index: int, layout: tuple[str, int, int]
) -> None:
    """Each report in one scheme on a desktop, and in the other on a phone."""
    scheme, width, height = layout
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    screen = listened(context.new_page(), complaints)
    screen.goto(reports[index in (1, 2)].as_uri())
    assert screen.locator("h2").count() > 4
    assert problems(screen) == []
    assert_it_fits(screen)
    context.close()
    assert complaints == []
