"""The console as its users operate it, on a gateway under traffic."""

import math
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from loadtests.client import Client, Seen
from tests.processes.flawed import gateway, release, requests, send_command
from tests.running import GatewayProcess

ROUTING = """\
models:
  flawed:  # the one and only
    stable: 1
    candidate: 2
    split:
      stickiness: prediction
      routes:
        - name: friends
          match: [{customer: {prefix: friend-}}]
          weight: 100
        - name: everyone
          weight: 50
"""
WITHIN_MS = 1000
TURNS = 5  # of which the best counts: what a busy machine adds to the others is not the gateway's doing
FELL = """() => {
  const fell = {after: Promise.withResolvers()};
  const row = document.querySelector("[data-route=everyone]");
  document.addEventListener("click", () => {
    const pressed = performance.now();
    const seen = () => row.dataset.percent === "0" && fell.after.resolve(performance.now() - pressed);
    new MutationObserver(seen).observe(row, {attributes: true});
  }, {once: true, capture: true});
  return {after: fell.after.promise};
}"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    started = gateway(tmp_path_factory.mktemp("console"))
    file_of(started).write_text(ROUTING)
    with started:
        yield started


@pytest.fixture
def console(running: GatewayProcess, page: Page) -> Iterator[Page]:
    page.goto(running.control_url)
    expect(page.locator("#contact")).to_have_attribute("data-state", "live")
    yield page
    if release(running)["stopped"]:
        send_command(running, "resume")


def file_of(running: GatewayProcess) -> Path:
    return running.config.parent / "routing.yaml"


def decisions(running: GatewayProcess) -> Any:
    return httpx.get(f"{running.control_url}/api/decisions").json()


def variants(running: GatewayProcess) -> set[tuple[str, ...]]:
    seen = Seen()
    with Client(("127.0.0.1", running.port), 8, requests(1.0)) as client:
        client.keep_busy(0.3, seen)
    assert not seen.failures
    return set(seen.variants)


class Traffic:
    """Sends requests from a thread until the context ends."""

    def __init__(self, running: GatewayProcess) -> None:
        self.seen = Seen()
        self._running = running
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        with Client(("127.0.0.1", self._running.port), 4, requests(1.0)) as client:
            while not self._over.is_set():
                client.keep_busy(0.05, self.seen)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()


def test_stop_button_stops_the_candidate_and_shows_when_it_took_effect(running: GatewayProcess, console: Page) -> None:
    everyone = console.locator("[data-route=everyone]")
    expect(everyone).to_have_attribute("data-percent", "50")
    with Traffic(running) as traffic:
        measured = console.locator("[data-route=measured]")
        expect(measured).to_have_attribute("data-percent", re.compile(r"^(4\d|5\d)"))  # 50% as it really falls
        fell = console.evaluate_handle(FELL)  # timed by the page itself, as a person at it would see it
        console.get_by_role("button", name="Stop the candidate of flawed").click()
        expect(console.locator(".effect")).to_have_text(re.compile("in effect [0-9]+ ms after the press"))
        assert variants(running) == {"stable"}
        assert fell.evaluate("fell => fell.after") < WITHIN_MS
        assert int(console.locator(".effect").get_attribute("data-ms") or "") < WITHIN_MS
        expect(everyone).to_have_attribute("data-percent", "0")
        expect(measured).to_have_attribute("data-percent", "0")
    assert not traffic.seen.failures
    expect(console.locator(".stage")).to_have_text("stopped")
    expect(console.locator(".why")).to_contain_text("Stopped by local")
    expect(console.locator("#fleet")).to_be_hidden()


def test_stop_made_elsewhere_appears_without_a_reload(running: GatewayProcess, console: Page) -> None:
    took_s: list[float] = []
    while len(took_s) < TURNS and min(took_s, default=math.inf) > WITHIN_MS / 1000:
        if took_s:
            send_command(running, "resume")
            expect(console.locator("[data-route=everyone]")).to_have_attribute("data-percent", "50")
        send_command(running, "stop")
        asked = time.monotonic()
        expect(console.locator("[data-route=everyone]")).to_have_attribute("data-percent", "0")
        took_s.append(time.monotonic() - asked)
    assert min(took_s) < WITHIN_MS / 1000, took_s
    expect(console.locator("#events li").first).to_contain_text("flawed: stop")
    expect(console.locator(".last")).to_contain_text("stop of version 2 by local, a test")


def test_stop_with_a_reason_asks_for_it_and_records_it(running: GatewayProcess, console: Page) -> None:
    console.get_by_role("button", name="Give a reason and stop flawed").click()
    dialog = console.locator("#reason-dialog")
    dialog.get_by_role("button", name="Stop").click()  # the browser asks for the reason: nothing is sent
    expect(dialog).to_be_visible()
    assert not release(running)["stopped"]
    dialog.get_by_label("Why?").fill("complaints of globex")
    dialog.get_by_role("button", name="Stop").click()
    expect(dialog).to_be_hidden()
    expect(console.locator(".why")).to_contain_text("Stopped by local via console")
    expect(console.get_by_role("button", name="Resume flawed")).to_be_focused()
    last = decisions(running)[0]
    assert (last["action"], last["reason"], last["evidence"]["via"]) == ("stop", "complaints of globex", "console")


def test_weight_of_a_route_is_set_after_its_edit_is_shown(running: GatewayProcess, console: Page) -> None:
    console.get_by_role("button", name="50%: set the weight of route everyone").click()
    dialog = console.locator("#promote-dialog")
    dialog.get_by_label("Percent").fill("30")
    dialog.get_by_label("Reason").fill("less")
    expect(dialog.locator("ins")).to_have_text("+          weight: 30\n")
    assert file_of(running).read_text() == ROUTING
    dialog.get_by_role("button", name="Set weight").click()
    expect(console.locator(".effect")).to_have_text("Route everyone sends 30% to version 2.")
    expect(console.locator("[data-route=everyone]")).to_have_attribute("data-percent", "30")
    assert decisions(running)[0]["reason"] == "less"
    httpx.post(f"{running.control_url}/api/releases/flawed/weight", json={"route": "everyone", "percent": 50})


def test_weight_of_a_route_that_follows_a_ramp_is_said_to_end_it(running: GatewayProcess, console: Page) -> None:
    ramp = "    ramp: {weights: [1, 40], interval: 1h, advance: no-violation}\n"
    file_of(running).write_text(ROUTING.replace("weight: 50", "weight: ramp") + ramp)
    console.get_by_role("button", name="1%: set the weight of route everyone", exact=True).click()
    dialog = console.locator("#promote-dialog")
    expect(dialog.locator(".note")).to_contain_text("this ends the ramp of flawed")
    dialog.get_by_role("button", name="Cancel").click()
    console.get_by_role("button", name="100%: set the weight of route friends").click()
    expect(dialog).to_contain_text("Weight of route friends")
    expect(dialog.locator(".note")).to_be_hidden()
    dialog.get_by_role("button", name="Cancel").click()
    file_of(running).write_text(ROUTING)
    expect(console.locator("[data-route=everyone]")).to_have_attribute("data-percent", "50")


def test_edit_whose_preview_comes_late_does_not_take_over_the_dialog_of_the_next(
    running: GatewayProcess, console: Page
) -> None:
    held: list[Route] = []

    def hold(asked: Route) -> None:
        late = asked.request.post_data_json["route"] == "friends"
        held.append(asked) if late else asked.continue_()

    console.route("**/api/releases/flawed/weight", hold)
    console.get_by_role("button", name="100%: set the weight of route friends").click()
    console.get_by_role("button", name="50%: set the weight of route everyone").click()
    dialog = console.locator("#promote-dialog")
    expect(dialog).to_contain_text("Weight of route everyone")
    with console.expect_response(lambda answer: "friends" in (answer.request.post_data or "")):
        held.pop().continue_()
    dialog.get_by_label("Percent").fill("30")
    expect(dialog).to_contain_text("Weight of route everyone")
    dialog.get_by_label("Reason").fill("less")
    expect(dialog.locator("ins")).to_have_text("+          weight: 30\n")
    dialog.get_by_role("button", name="Set weight").click()
    expect(console.locator(".effect")).to_have_text("Route everyone sends 30% to version 2.")
    assert file_of(running).read_text() == ROUTING.replace("weight: 50", "weight: 30")
    httpx.post(f"{running.control_url}/api/releases/flawed/weight", json={"route": "everyone", "percent": 50})


def test_resume_requires_a_reason_and_records_it(running: GatewayProcess, console: Page) -> None:
    send_command(running, "stop")
    console.get_by_role("button", name="Resume flawed").click()
    dialog = console.locator("#reason-dialog")
    expect(dialog).to_contain_text("stopped by local")
    dialog.get_by_role("button", name="Resume").click()
    assert release(running)["stopped"]  # not without a reason
    dialog.get_by_label("Why is it safe to resume?").fill("the cause is fixed")
    dialog.get_by_role("button", name="Resume").click()
    expect(dialog).to_be_hidden()
    expect(console.locator(".stage")).to_have_text("running")
    assert decisions(running)[0]["reason"] == "the cause is fixed"
    assert "candidate" in variants(running)


def test_stop_works_with_the_keyboard_alone(running: GatewayProcess, console: Page) -> None:
    focused = "document.activeElement.getAttribute('aria-label')"
    for _ in range(30):
        console.keyboard.press("Tab")
        if console.evaluate(focused) == "Stop the candidate of flawed":
            break
    console.keyboard.press("Enter")
    expect(console.locator(".stage")).to_have_text("stopped")
    expect(console.get_by_role("button", name="Resume flawed")).to_be_focused()
    console.keyboard.press("Enter")
    console.keyboard.type("by keyboard")
    console.keyboard.press("Enter")
    expect(console.locator(".stage")).to_have_text("running")
    expect(console.get_by_role("button", name="Stop the candidate of flawed")).to_be_focused()
    assert decisions(running)[0]["reason"] == "by keyboard"


def test_mistake_in_the_routing_file_is_shown_at_the_top(running: GatewayProcess, console: Page) -> None:
    file_of(running).write_text(ROUTING.replace("weight: 50", "wieght: 50"))
    banner = console.locator("#config-error")
    expect(banner).to_be_in_viewport()
    expect(banner).to_contain_text("did you mean 'weight'")
    expect(console.locator("#config-alarm")).to_be_visible()
    file_of(running).write_text(ROUTING)
    expect(banner).to_be_hidden()


def test_warning_about_the_routing_file_is_shown_at_the_top(running: GatewayProcess, console: Page) -> None:
    late = "- {name: late, match: [{customer: x}], weight: 5}"
    line = next(line for line in ROUTING.splitlines() if "name: everyone" in line)
    indent = line[: len(line) - len(line.lstrip())]
    file_of(running).write_text(ROUTING.replace(line, f"{indent}- {{name: all, weight: 50}}\n{indent}{late}\n{line}"))
    banner = console.locator("#config-warnings")
    expect(banner).to_be_in_viewport()
    expect(banner).to_contain_text("'all' matches every request")
    expect(console.locator("#config-alarm")).to_be_hidden()
    file_of(running).write_text(ROUTING)
    expect(banner).to_be_hidden()


def test_what_if_form_explains_the_version_a_customer_gets(console: Page) -> None:
    form = console.locator("#what-if")
    form.get_by_label("Customer", exact=True).fill("friend-7")
    form.get_by_role("button", name="Explain").click()
    answer = console.locator("#what-if-answer")
    expect(answer).to_contain_text("version 2 candidate")
    form.get_by_label("Customer", exact=True).fill("")
    form.locator("summary").click()
    form.get_by_label("Key to hash if there is no customer").fill("p-1")
    form.get_by_role("button", name="Explain").click()
    expect(answer).to_contain_text("prediction 'p-1' is in bucket")
    expect(answer.locator("[data-matched=true]")).to_contain_text("everyone")


def test_reasons_are_shown_as_text_and_not_as_html(running: GatewayProcess, console: Page) -> None:
    reason = "<img src=x onerror=document.body.remove()><b>bold</b>"
    httpx.post(f"{running.control_url}/api/releases/flawed/stop", json={"reason": reason})
    for place in (".why", ".last", "#events"):
        expect(console.locator(place)).to_contain_text(reason)
    assert console.locator("main img, aside img").count() == 0


def test_promote_shows_the_edit_before_it_is_made(running: GatewayProcess, console: Page) -> None:
    console.get_by_role("button", name="Promote the candidate of flawed").click()
    dialog = console.locator("#promote-dialog")
    expect(dialog.locator("ins")).to_have_text("+    stable: 2\n")
    dialog.get_by_label("Reason").fill("better")
    dialog.get_by_role("button", name="Promote").click()
    expect(dialog).to_be_hidden()
    expect(console.locator(".stage")).to_have_text("no candidate")
    expect(console.get_by_role("button", name="Stop the candidate of flawed")).to_be_hidden()
    assert "  flawed:  # the one and only\n    stable: 2\n" in file_of(running).read_text()
    console.get_by_role("button", name="Undo the promotion of flawed").click()
    expect(dialog.locator("ins")).to_have_text("+    stable: 1\n")
    dialog.get_by_label("Bring version 2 back").check()
    expect(dialog.locator("ins")).to_have_count(ROUTING.count("\n") - 2)
    dialog.get_by_label("Reason").fill("worse after all")
    dialog.get_by_role("button", name="Undo promotion").click()
    expect(console.locator(".stage")).to_have_text("running")
    expect(console.get_by_role("button", name="Undo the promotion of flawed")).to_be_hidden()
    assert file_of(running).read_text() == ROUTING


def test_figures_of_a_period_and_the_most_frequent_customers(running: GatewayProcess, console: Page) -> None:
    with Traffic(running):
        console.get_by_label("Last hour").check()
        expect(console.get_by_text("Figures of the last hour.")).to_be_visible()
        console.get_by_text("Routes and customers").click()
        expect(console.get_by_role("row", name=re.compile("^everyone [0-9,]+ "))).to_be_visible()
        expect(console.get_by_role("row", name=re.compile(r"^\(none\) [0-9,]+ "))).to_be_visible()
