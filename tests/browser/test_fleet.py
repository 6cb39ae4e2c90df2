"""The console of a gateway in a fleet, over a real Redis."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import listened
from tests.browser.test_look import SCREENS, assert_it_fits, problems
from tests.control.fleet.servers import RedisServer
from tests.processes.flawed import release, send_command, until
from tests.processes.test_fleet_shown import host, shown
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
WITHIN_MS = 20_000  # a lease of 3 s, and a machine that is busy
STOP = "Stop the candidate of flawed"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, store: RedisServer
) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    folder = tmp_path_factory.mktemp("hosts")
    with host(folder, store.url, "<b>a") as a, host(folder, store.url, "<b>b") as b:
        until(lambda: bool(shown(a)["open"] and shown(b)["open"]), "both are open")
        yield a, b


@pytest.fixture(autouse=True)
def _resumed(store: RedisServer, pair: tuple[GatewayProcess, GatewayProcess]) -> Iterator[None]:
    yield
    store.thaw()
    until(lambda: all(shown(each)["open"] and not shown(each)["unconfirmed"] for each in pair), "all is well")
    if release(pair[0])["stopped"]:
        assert send_command(pair[0], "resume").status_code == 200


def test_panel_lists_the_hosts_and_the_stop_says_on_how_many(
    pair: tuple[GatewayProcess, GatewayProcess], page: Page
) -> None:
    page.goto(pair[0].control_url)
    panel = page.locator("#fleet")
    expect(panel.get_by_role("heading")).to_have_text("Fleet production")
    expect(panel).to_have_attribute("data-state", "open", timeout=WITHIN_MS)
    expect(panel.locator("#fleet-state")).to_have_text("Candidates get traffic on this host.")
    leads = r"( · leads flawed)?$"
    names = [re.compile(f"^<b>a · this one{leads}"), re.compile(f"^<b>b{leads}")]  # as text, not as HTML
    expect(panel.locator("li")).to_have_text(names)
    expect(panel.locator("li", has_text="leads flawed")).to_have_count(1, timeout=WITHIN_MS)
    page.get_by_role("button", name=STOP).click()
    expect(page.locator(".effect")).to_have_text(re.compile(r"^Stopped on 2 hosts: in effect \d+ ms after the press\."))
    assert release(pair[1])["stopped"]
    expect(panel.locator("#fleet-unconfirmed")).to_be_hidden()


def test_stop_without_the_store_is_shown_as_unconfirmed_until_it_is(
    pair: tuple[GatewayProcess, GatewayProcess], store: RedisServer, page: Page
) -> None:
    page.goto(pair[0].control_url)
    panel = page.locator("#fleet")
    expect(panel).to_have_attribute("data-state", "open", timeout=WITHIN_MS)
    store.freeze()
    expect(panel).to_have_attribute("data-state", "closed", timeout=WITHIN_MS)
    expect(panel.locator("#fleet-state")).to_contain_text("Candidates get no traffic on this host: no contact: ")
    expect(panel.locator("li").last).to_contain_text("silent for")
    page.get_by_role("button", name=STOP).click()
    expect(page.locator(".effect")).to_contain_text("Stopped on this host.", timeout=WITHIN_MS)
    expect(page.locator("#model-flawed .failure")).to_contain_text("the fleet's store has not taken it")
    expect(panel.locator("#fleet-unconfirmed")).to_have_text(
        "Stopped here, but not confirmed on all hosts: version 2 of flawed"
    )
    store.thaw()
    expect(panel.locator("#fleet-unconfirmed")).to_be_hidden(timeout=WITHIN_MS)
    expect(panel).to_have_attribute("data-state", "open", timeout=WITHIN_MS)


def test_routing_files_that_differ_are_shown(pair: tuple[GatewayProcess, GatewayProcess], page: Page) -> None:
    page.goto(pair[0].control_url)
    panel, differing = page.locator("#fleet"), page.locator("#fleet-routing")
    expect(panel).to_have_attribute("data-state", "open", timeout=WITHIN_MS)
    expect(differing).to_be_hidden()
    file = pair[1].config.with_name("routing.yaml")
    before = file.read_text()
    file.write_text(before.replace("50", "40"))
    try:
        expect(differing).to_have_text("<b>b has other entries in its routing file: flawed.", timeout=WITHIN_MS)
        assert problems(page) == []
    finally:
        file.write_text(before)
    expect(differing).to_be_hidden(timeout=WITHIN_MS)


@pytest.mark.parametrize(("scheme", "width", "height"), SCREENS)
def test_panel_is_accessible_and_fits_every_screen(
    pair: tuple[GatewayProcess, GatewayProcess],
    store: RedisServer,
    browser: Browser,
    complaints: list[str],
    scheme: str,
    width: int,
    height: int,
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})  # type: ignore[arg-type]
    screen = listened(context.new_page(), complaints)
    screen.goto(pair[0].control_url)
    expect(screen.locator("#fleet")).to_have_attribute("data-state", "open", timeout=WITHIN_MS)
    assert problems(screen) == []
    store.freeze()
    screen.get_by_role("button", name=STOP).click()
    expect(screen.locator("#fleet")).to_have_attribute("data-state", "closed", timeout=WITHIN_MS)
    expect(screen.locator("#fleet-unconfirmed")).to_be_visible(timeout=WITHIN_MS)
    expect(screen.locator("#fleet [data-silent=true]").first).to_be_visible()
    assert problems(screen) == []
    assert_it_fits(screen)
    context.close()
    assert complaints == []
