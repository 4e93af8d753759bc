"""The console in a real browser, before a real gate that moves an arm.

Chromium is driven by Playwright, which waits by itself for what it is asked about; the graph is served on a
thread meanwhile.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from graph_helpers import REACT_S, START_S
from scenarios import PLUGIN_FOLDER, THRESHOLD, Rehearsal
from std_msgs.msg import String

from salus_msgs.msg import InterventionState
from salus_ros.nodes import qos
from salus_ros.nodes.graph import Graph
from salus_ros.nodes.session import SHARED_CORES
from salus_ros.types import FailureType

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium here: apt-get install chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

REACT_MS = 1000 * REACT_S
PHONE = {"width": 390, "height": 844}
EVIL = '<img src=x onerror="document.title=\'broken\'"><script>document.title="broken"</script>'


class Served:
    """A rehearsal whose graph is served on a thread, and the console's address."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}/"
        self.graph = graph
        self.port = port
        self.start_console()
        self.rehearsal = Rehearsal(graph, folder, **SHARED_CORES)
        self._end = threading.Event()
        self._pause = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def start_console(self) -> None:
        self.graph.start("console", {"port": self.port})

    def _serve(self) -> None:
        while not self._end.is_set():
            with self._pause:
                self.graph.spin_for(0.05)
            time.sleep(0)  # let a test that wants the graph for itself have it

    def with_graph(self, work: Callable[[], Any]) -> Any:
        with self._pause:
            return work()

    def mode(self) -> int:
        return int(self.rehearsal.states.newest.mode)

    def close(self) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("console")
    environment = {"PYTHONPATH": os.pathsep.join([str(PLUGIN_FOLDER), os.environ.get("PYTHONPATH", "")])}
    with Graph(domain_id=59, log_dir=folder / "logs", environment=environment) as graph:
        running = Served(graph, folder)
        try:
            yield running
        finally:
            running.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(served: Served, chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens the console's page; whatever the test before left, the arm follows the policy again."""
    contexts: list[Any] = []
    complaints: list[str] = []
    served.with_graph(served.rehearsal.make_nominal)

    def open_one(viewport: dict[str, int] | None = None) -> Any:
        context = chromium.new_context(viewport=viewport or {"width": 1280, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(served.url)
        sync_api.expect(page.locator("#link")).to_contain_text("live", timeout=REACT_MS)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == [], "the page's script failed"


def expect_mode(page: Any, mode: str) -> None:
    sync_api.expect(page.locator("body")).to_have_attribute("data-mode", mode, timeout=REACT_MS)


def eventually(page: Any, condition: str) -> None:
    """Wait for a condition of the page's script; Playwright's own way is ``eval``, which the page forbids."""
    end_s = time.monotonic() + REACT_S
    while not page.evaluate(condition):
        assert time.monotonic() < end_s, f"waited {REACT_S:g} s in vain for {condition}"
        page.wait_for_timeout(50)


def test_the_page_shows_what_the_graph_does(served: Served, open_page: Callable[..., Any]) -> None:
    page = open_page()
    expect = sync_api.expect
    expect_mode(page, "NOMINAL")
    expect(page.locator("#instruction")).to_contain_text("cube")
    served.rehearsal.oracle.foresee(FailureType.DROP, 0.8 * THRESHOLD)
    drop = page.locator("#risk tbody tr", has_text="Drop")
    expect(drop.locator("td").nth(3)).to_have_text("40 %", timeout=REACT_MS)
    expect(page.locator("#sources li", has_text="Joint states")).to_have_class("fresh")
    expect(page.locator("#sources li", has_text="Front camera")).to_have_class("fresh")
    expect(page.locator("#no-image")).to_be_hidden()
    eventually(page, "now.path.points.length > 5 && now.path.pixels.length > 5")
    image_differs = page.evaluate(
        "new Set(document.getElementById('camera').getContext('2d').getImageData(0, 0, 300, 300).data).size"
    )
    assert image_differs > 20, "the camera's image is one colour"
    expect_mode(page, "SLOW_DOWN")
    expect(page.locator("#events")).to_contain_text("slow down")


def test_the_wrist_camera_is_shown_when_it_is_asked_for(open_page: Callable[..., Any]) -> None:
    page = open_page()
    eventually(page, "image !== null")
    page.get_by_role("button", name="wrist").click()
    eventually(page, "camera === 'wrist' && image !== null")


def test_a_stop_stops_the_arm_and_only_a_reset_moves_it_again(
    served: Served, open_page: Callable[..., Any]
) -> None:
    page = open_page()
    expect_mode(page, "NOMINAL")
    reset = page.locator("[data-command=reset]")
    sync_api.expect(reset).to_be_hidden()
    page.locator("#stop").click()
    expect_mode(page, "EMERGENCY_STOP")
    served.with_graph(served.rehearsal.wait_for_standstill)
    sync_api.expect(page.locator("#events")).to_contain_text("stop from 127.0.0.1: accepted")
    reset.click()
    expect_mode(page, "NOMINAL")
    sync_api.expect(reset).to_be_hidden()


def test_a_call_for_assistance_is_answered_on_a_phone(served: Served, open_page: Callable[..., Any]) -> None:
    page = open_page(PHONE)
    buttons = {name: page.locator(f"[data-command={name}]") for name in ("resume", "retry", "abort")}
    served.rehearsal.oracle.foresee(FailureType.COLLISION, 0.99)
    expect_mode(page, "ASSIST")
    served.rehearsal.oracle.foresee_nothing()
    for button in (*buttons.values(), page.locator("#stop")):
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"], "a button is cut off"
        assert box["y"] + box["height"] <= PHONE["height"] and box["height"] >= 44, "no finger can hit it"
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], (
        "the page scrolls sideways"
    )
    buttons["resume"].click()
    expect_mode(page, "NOMINAL")
    sync_api.expect(buttons["resume"]).to_be_hidden()


def test_words_from_the_graph_are_shown_as_they_are_and_never_run(
    served: Served, open_page: Callable[..., Any]
) -> None:
    page = open_page()
    node = served.graph.node

    def say() -> None:
        node.create_publisher(String, qos.INSTRUCTION, qos.profile(qos.INSTRUCTION)).publish(
            String(data=EVIL)
        )
        health = node.create_publisher(DiagnosticArray, qos.DIAGNOSTICS, qos.profile(qos.DIAGNOSTICS))
        end_s = time.monotonic() + REACT_S
        while health.get_subscription_count() == 0 and time.monotonic() < end_s:
            served.graph.spin_for(0.05)
        status = DiagnosticStatus(level=DiagnosticStatus.WARN, name=EVIL, message=EVIL)
        health.publish(DiagnosticArray(status=[status]))

    served.with_graph(say)
    sync_api.expect(page.locator("#instruction")).to_contain_text(EVIL, timeout=REACT_MS)
    sync_api.expect(page.locator("#nodes")).to_contain_text(EVIL, timeout=REACT_MS)
    sync_api.expect(page.locator("#events")).to_contain_text(EVIL)
    assert page.locator("#instruction img, #nodes img, #events img, #events script").count() == 0
    assert page.title() == "SALUS"


FLOOD = """
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from salus_ros.nodes import qos
rclpy.init()
node = rclpy.create_node("flood")
publisher = node.create_publisher(DiagnosticArray, qos.DIAGNOSTICS, qos.profile(qos.DIAGNOSTICS))
message = DiagnosticArray(status=[DiagnosticStatus(name="flood", message="word " * 50)])
while True:
    publisher.publish(message)
"""


def test_a_stop_is_taken_while_the_graph_is_under_load(served: Served, open_page: Callable[..., Any]) -> None:
    """Every core is busy, and the console's own topics are flooded."""
    page = open_page()
    expect_mode(page, "NOMINAL")
    domain = {**os.environ, "ROS_DOMAIN_ID": str(served.graph.domain_id)}
    busy = ["while True: pass"] * len(os.sched_getaffinity(0))
    load = [subprocess.Popen([sys.executable, "-c", code], env=domain) for code in (*busy, FLOOD)]
    try:
        sync_api.expect(page.locator("#nodes")).to_contain_text("Flood", timeout=1000 * START_S)
        page.locator("#stop").dispatch_event("pointerdown")
        served.with_graph(lambda: served.rehearsal.wait_for(InterventionState.EMERGENCY_STOP))
        assert served.rehearsal.states.newest.cause == InterventionState.CAUSE_PERSON
    finally:
        for process in load:
            process.kill()
            process.wait()
    expect_mode(page, "EMERGENCY_STOP")


def test_a_stop_pressed_in_a_browser_that_is_lost_at_once_is_a_stop(
    served: Served, open_page: Callable[..., Any]
) -> None:
    page = open_page()
    expect_mode(page, "NOMINAL")
    gate = served.graph.processes["intervention_node"]
    gate.signal(signal.SIGSTOP)  # it cannot answer while the browser is there
    try:
        page.evaluate("void stop()")
        sync_api.expect(page.locator("#stop")).to_have_text("Stopping")
        log = served.graph.processes["console_node"]
        served.with_graph(
            lambda: served.graph.spin_until(
                lambda: "driver's stop" in log.log_tail(), REACT_S, "the driver's stop, in the gate's silence"
            )
        )
        page.close()
    finally:
        gate.signal(signal.SIGCONT)
    served.with_graph(lambda: served.rehearsal.wait_for(InterventionState.EMERGENCY_STOP))


def test_a_page_that_hears_nothing_says_so_and_a_stop_is_tried_until_it_is_taken(
    served: Served, open_page: Callable[..., Any]
) -> None:
    page = open_page()
    served.with_graph(lambda: served.graph.kill("console_node"))
    sync_api.expect(page.locator("#lost")).to_be_visible(timeout=REACT_MS)
    page.locator("#stop").click()
    sync_api.expect(page.locator("#answer")).to_contain_text("not delivered", timeout=REACT_MS)
    sync_api.expect(page.locator("#answer")).to_contain_text("robot's own emergency stop")
    served.with_graph(served.start_console)
    expect_mode(page, "EMERGENCY_STOP")
    served.with_graph(lambda: served.rehearsal.wait_for(InterventionState.EMERGENCY_STOP))
    sync_api.expect(page.locator("#lost")).to_be_hidden(timeout=1000 * START_S)


def test_updates_come_ten_times_a_second(served: Served, open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.wait_for_timeout(2500)
    text = page.locator("#link-text").inner_text()
    rate_hz = int(re.search(r"(\d+) Hz", text).group(1))  # type: ignore[union-attr]
    assert 5 <= rate_hz <= 12, f"the page says: {text}"
