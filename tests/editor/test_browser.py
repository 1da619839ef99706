"""The page in a real browser: a cell from nothing to timm, two windows, a killed server, a keyboard, a phone."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from robnet_zoo.converters import onnx
from robnet_zoo.editor.attacker import THREAD
from robnet_zoo.editor.desk import open_desk
from robnet_zoo.editor.serving import listen, server_of
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.zoo.registry import load_model
from tests.browser import assert_fits, contrasts, headless
from tests.editor.command import started

EXPECTED = re.compile(r"ERR_CONNECTION|status of 400")  # the console on a killed server and a refused value
SECONDS = 30  # that an answer may take on a busy machine


@contextmanager
def serving(spec: str, *models: str) -> Iterator[str]:
    """Serve an editor in this process; gives its address."""
    with listen(0) as listener:
        server = server_of(open_desk(spec, models=models), listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[Any]:
    with headless(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def waited(condition: Callable[[], Any]) -> Any:
    """Return what a condition gives, once that is true."""
    end = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < end, "expected it to come true"
        time.sleep(0.02)
    return value


class Page:
    """The page in a window of the browser."""

    def __init__(self, browser: Any, address: str, *, new: bool = False) -> None:
        self.browser = browser
        if new:
            browser.switch_to.new_window("window")
        browser.get(address)
        self.window = browser.current_window_handle
        waited(lambda: browser.find_elements("css selector", "main:not([hidden]) .stage"))

    def front(self) -> None:
        self.browser.switch_to.window(self.window)

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return self.browser.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def key(self, key: str) -> Any:
        return self.find(f'[data-key="{key}"]')

    def announced(self, action: Callable[[], Any]) -> str:
        """Return what a screen reader is told after an action."""
        self.browser.execute_script("document.getElementById('announcement').textContent = ''")
        action()
        return waited(lambda: self.text("#announcement"))

    def click(self, selector: str) -> None:
        """Click a control of the page with the mouse."""
        control = self.find(selector)
        self.browser.execute_script("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", control)
        control.click()

    def press(self, key: str) -> str:
        """Click a control that changes the draft, and return what is announced."""
        return self.announced(lambda: self.click(f'[data-key="{key}"]'))

    def choose(self, key: str) -> None:
        """Click an edge or a node of the drawing where it is drawn."""
        self.browser.execute_script(
            """
            const group = document.querySelector(`[data-key="${arguments[0]}"]`);
            const line = group.querySelector(".hit");
            group.scrollIntoView({ block: "center", behavior: "instant" });
            let point = { x: 0, y: 0 };
            if (line) point = line.getPointAtLength(line.getTotalLength() / 2);
            const { x, y } = new DOMPoint(point.x, point.y).matrixTransform(group.getScreenCTM());
            document.elementFromPoint(x, y).dispatchEvent(new MouseEvent("click", { bubbles: true }));
            """,
            key,
        )
        waited(lambda: self.key(key).get_attribute("aria-pressed") == "true")

    def type_into(self, selector: str, text: str) -> None:
        """Type a text into a field in place of what it holds, and Enter."""
        field = self.find(selector)
        self.browser.execute_script("arguments[0].value = ''", field)
        field.send_keys(text, "\n")

    def fill(self, selector: str, text: str) -> str:
        """Type a text into a field, and return what is announced."""
        return self.announced(lambda: self.type_into(selector, text))

    @property
    def draft(self) -> str:
        return self.browser.execute_script(
            "return JSON.stringify(JSON.parse(sessionStorage.getItem(Object.keys(sessionStorage)[0])).drafts.at(-1))"
        )


@pytest.fixture
def page(chromium, tmp_path) -> Iterator[Page]:
    """The page of a file that is not there yet, `mine.json`."""
    with serving(str(tmp_path / "mine.json")) as address:
        opened = Page(chromium, address)
        yield opened
        leave(chromium)


def leave(browser: Any) -> None:
    """Close all windows but the first, without questions about unsaved work."""
    for window in browser.window_handles[1:]:
        browser.switch_to.window(window)
        browser.close()
    browser.switch_to.window(browser.window_handles[0])
    browser.execute_script("window.addEventListener('beforeunload', (event) => event.stopImmediatePropagation(), true)")
    browser.get("about:blank")
    complaints = [entry["message"] for entry in browser.get_log("browser") if entry["source"] != "intervention"]
    assert not [text for text in complaints if not EXPECTED.search(text)]


def test_a_cell_from_nothing_is_saved_compiled_and_loaded_through_timm(page, tmp_path):
    assert "got zeros alone" in page.text("#verdict")
    page.choose("edge 0 2")
    page.press("switch identity")
    page.choose("edge 1 2")
    assert page.press("switch sep_conv_3x3").endswith("Valid.")
    page.press("add node")
    assert "zero as no input reaches it" in page.key("node 3").get_attribute("aria-label")
    page.choose("edge 2 3")
    page.press("switch sep_conv_3x3")
    page.choose("edge 1 3")
    page.press("switch identity")
    page.fill("#name", "hand_made")
    page.fill('[data-key="channels"]', "8")
    shown = page.text("#figure-parameters dd")
    assert page.announced(page.find("#save").click) == f"Saved in {tmp_path / 'mine.json'}."

    spec = Genotype.load(tmp_path / "mine.json")
    assert spec.name == "hand_made"
    assert spec.cells["cell"].alpha == ((1, 0), (0, 1), (0, 0), (1, 0), (0, 1))
    assert spec.hash.startswith(page.text("#hash"))
    model = timm.create_model("robnet", spec=str(tmp_path / "mine.json")).eval()
    assert f"{sum(p.numel() for p in model.parameters()):,}" == shown
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    assert str(tmp_path / "mine.json") in page.text("#training-line")


def test_undo_and_redo_lead_through_the_drafts(page):
    begun = page.draft
    page.press("add node")
    once = page.draft
    page.press("add node")
    twice = page.draft
    assert page.announced(page.find("#undo").click).startswith("Undone.")
    assert page.draft == once
    page.announced(page.find("#undo").click)
    assert page.draft == begun
    assert not page.find("#undo").is_enabled()
    page.announced(page.find("#redo").click)
    page.announced(page.find("#redo").click)
    assert page.draft == twice


def test_a_reload_keeps_the_draft(page):
    page.press("add node")
    draft = page.draft
    page.browser.execute_script(
        "window.addEventListener('beforeunload', (event) => event.stopImmediatePropagation(), true)"
    )
    page.browser.refresh()
    waited(lambda: page.browser.find_elements("css selector", "main:not([hidden]) .stage"))
    assert page.draft == draft
    assert "from before it was loaded again" in page.text("#banner")


def test_of_two_windows_the_second_asks_before_it_replaces_what_the_first_saved(page, tmp_path):
    first = page
    page.fill("#name", "first")
    page.choose("edge 1 2")
    page.press("switch identity")
    second = Page(page.browser, page.browser.current_url, new=True)
    second.choose("edge 0 2")
    second.press("switch sep_conv_3x3")
    second.choose("edge 1 2")
    second.press("switch sep_conv_3x3")
    first.front()
    assert first.announced(first.find("#save").click).startswith("Saved")
    second.front()
    for answer, name in (("dismiss", "first"), ("accept", "mine")):
        second.find("#save").click()
        question = waited(lambda: alert_of(second.browser))
        assert "has changed since this window read it" in question.text
        getattr(question, answer)()
        waited(lambda name=name: Genotype.load(tmp_path / "mine.json").name == name)
        waited(lambda: second.text("#announcement"))
    assert Genotype.load(tmp_path / "mine.json").cells["cell"].alpha == ((0, 1), (0, 1))


def alert_of(browser: Any) -> Any:
    from selenium.common.exceptions import NoAlertPresentException

    try:
        return browser.switch_to.alert
    except NoAlertPresentException:
        return None


def test_a_killed_server_costs_nothing_and_the_page_goes_on_with_the_next(chromium, tmp_path):
    process, address = started(tmp_path / "mine.json", "--port", "0", folder=tmp_path)
    try:
        page = Page(chromium, address)
        page.choose("edge 1 2")
        page.press("switch sep_conv_3x3")
        process.kill()
        process.join()
        page.click('[data-key="switch identity"]')
        waited(lambda: "does not answer. Nothing is lost" in page.text("#banner"))
        assert page.find("#download").is_enabled()
        port = address.split(":")[2].strip("/")
        process, again = started(tmp_path / "mine.json", "--port", port, folder=tmp_path)
        assert again == address
        waited(lambda: page.text("#banner") == "" and "switched" in page.text("#announcement"))
        assert page.announced(page.find("#save").click).startswith("Saved")
        assert Genotype.load(tmp_path / "mine.json").cells["cell"].alpha == ((0, 0), (1, 1))
        os.kill(process.pid, signal.SIGINT)
        process.join(SECONDS)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
        leave(chromium)


def test_the_keyboard_alone_makes_a_cell(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def type_keys(*keys: str) -> None:
        ActionChains(page.browser).send_keys(*keys).perform()

    def focus(attribute: str = "aria-label") -> str:
        return page.browser.switch_to.active_element.get_attribute(attribute) or ""

    page.find("#name").click()
    for _ in range(60):
        type_keys(Keys.TAB)
        if focus().startswith("Edge"):
            break
    assert focus() == "Edge 0 to 2: nothing"
    type_keys(Keys.ARROW_RIGHT)
    assert focus() == "Edge 1 to 2: nothing"
    type_keys(Keys.ENTER)
    waited(lambda: "Edge 1 → 2" in page.text("#chosen"))
    assert focus() == "Edge 1 to 2: nothing", "the focus stays"
    type_keys(Keys.TAB)
    assert focus("data-key") == "switch identity"
    assert page.announced(lambda: type_keys(" ")).endswith("Valid.")
    assert focus("data-key") == "switch identity"
    undo = ActionChains(page.browser).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL)
    page.announced(undo.perform)
    assert "got zeros alone" in page.text("#verdict")


def test_a_problem_leads_to_its_control(page):
    page.choose("edge 1 2")
    page.press("switch identity")
    page.fill('[data-key="height"]', "30")
    assert page.key("height").get_attribute("aria-invalid") == "true"
    page.click('[data-key="problem 0"]')
    assert page.browser.switch_to.active_element.get_attribute("data-key") == "height"


def test_a_refused_value_is_explained_and_the_draft_stays(page):
    draft = page.draft
    page.type_into('[data-key="channels"]', "0")
    waited(lambda: "network.channels: expected at least 1, got 0" in page.text("#banner"))
    assert page.draft == draft
    assert page.key("channels").get_attribute("value") == "16"


def test_a_cell_may_be_named_as_what_every_object_has(page):
    page.type_into("#cell-name", "__proto__")
    waited(lambda: "expected a letter" in page.text("#banner"))
    page.fill("#cell-name", "constructor")
    page.fill("#cell-name", "toString")
    page.press("add node")
    assert page.find("#cell-name").get_attribute("value") == "toString"
    assert page.text("#banner") == ""


@pytest.fixture(scope="module")
def large(chromium) -> Iterator[Page]:
    """The page of a large spec with everything open, to be looked at."""
    with serving("robnet_free") as address:
        page = Page(chromium, address)
        page.choose("edge 1 3")
        page.find("#other").send_keys("racl")
        page.announced(page.find("#compare button").click)
        yield page
        leave(chromium)


@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_the_page_never_scrolls_sideways(large, width):
    inside = ".canvas"  # a drawing scrolls in itself
    large.browser.execute_script(
        f"document.querySelectorAll('{inside}').forEach((canvas) => canvas.classList.add('scroll'))"
    )
    assert_fits(large.browser, width)


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_text_can_be_read_by_day_and_in_the_dark(large, scheme, dark):
    page, least, text = contrasts(large.browser, scheme)
    assert page < 0.05 if dark else page > 0.8
    assert least >= 4.5, text


def test_every_control_has_a_name_for_a_screen_reader(large):
    nodes = large.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = {"button", "checkbox", "combobox", "textbox", "spinbutton", "img", "group"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in controls
    ]
    assert len(named) > 80
    nameless = [role for role, name in named if not name and role != "group"]
    assert nameless == []


def test_two_specs_stand_side_by_side(large):
    assert large.text("#comparison thead").startswith("robnet_free (shown above)racl")
    assert len(large.browser.find_elements("css selector", "#comparison svg.cell")) == 2
    assert "They compile to different functions." in large.text("#comparison")


def test_nearest_published_cells_are_listed(large):
    waited(lambda: "robnet_free" in large.text("#nearest li"))
    assert large.text("#nearest li strong") == "0"


@pytest.fixture(scope="module")
def watching(chromium, tmp_path_factory) -> Iterator[Page]:
    """The page with digits to attack, an ONNX file first among the models."""
    file = tmp_path_factory.mktemp("onnx") / "digits.onnx"
    onnx.export(load_model("robnet_micro.digits"), file)
    with serving("robnet_micro", str(file)) as address:
        page = Page(chromium, address)
        page.browser.execute_script("document.getElementById('watch').open = true")
        waited(lambda: page.find("#attack-start").is_enabled())
        yield page
        leave(chromium)


def filled(page: Page, model: str, kind: str, fields: dict[str, str]) -> None:
    """Fill in the form of an attack. fields: by what follows `attack-` in their ids."""
    page.browser.execute_script(
        """
        const [model, kind, fields] = arguments;
        for (const [key, value] of [["attacked model", model], ["attack kind", kind]]) {
            const field = document.querySelector(`[data-key='${key}']`);
            field.value = value;
            field.dispatchEvent(new Event("change"));
        }
        for (const [id, value] of Object.entries(fields)) document.getElementById(`attack-${id}`).value = value;
        """,
        model,
        kind,
        fields,
    )


def attacked(page: Page, model: str, kind: str = "pgd", **fields: str) -> str:
    """Attack a digit on the page, and return the verdict."""
    filled(page, model, kind, fields)
    return verdict(page)


def verdict(page: Page) -> str:
    """Start the attack of the form, and return the verdict."""
    page.click("#attack-start")
    return waited(lambda: page.find("#attack-start").is_enabled() and page.text("#attack-verdict"))


def test_an_attack_is_watched_to_its_end_on_a_model_and_on_its_onnx_file(watching):
    models = [option.text for option in watching.key("attacked model").find_elements("css selector", "option")]
    assert "robnet_micro.digits (the spec shown)" in models
    verdicts = []
    for model in ("robnet_micro.digits", models[0]):
        verdicts.append(attacked(watching, model, eps="64/255", **{"parameter-step": "8/255"}))
        assert len(watching.browser.find_elements("css selector", "#attack-pictures img")) == 3
        assert watching.find("#attack-chart polyline").get_attribute("points")
        assert watching.find("#attack-progress").get_attribute("value") != "0"
    assert models[0].endswith("digits.onnx")
    assert verdicts[0].startswith("Fooled at step ")
    assert verdicts[1] == verdicts[0]


@pytest.mark.parametrize("trial", ["", "2"])
def test_a_parameter_that_may_be_none_is_none_where_its_field_is_empty(watching, trial):
    fields = {"parameter-queries": "10", "parameter-trial": trial}
    told = attacked(watching, "robnet_micro.digits", "square", eps="1/255", **fields)
    assert told.startswith(("Withstood square: ", "Fooled at step "))


def test_a_list_is_entered_with_commas_between_its_parts(watching):
    pytest.importorskip("pyautoattack")
    filled(watching, "robnet_micro.digits", "autoattack", {"eps": "1/255", "parameter-attacks": "apgd-ce, apgd-dlr"})
    assert "attacks: expected none with the version standard" in verdict(watching)
    watching.browser.execute_script("document.querySelector(\"[data-key='attack version']\").value = 'custom'")
    assert verdict(watching).startswith(("Withstood autoattack: ", "Fooled "))


def test_the_stop_button_stops_the_server_too(watching):
    filled(watching, "robnet_micro.digits", "pgd", {"eps": "0", "parameter-steps": "100000"})
    watching.click("#attack-start")
    waited(lambda: " of at most 100000" in watching.text("#attack-now"))
    watching.click("#attack-stop")
    assert waited(lambda: watching.text("#attack-verdict")).startswith("Stopped after ")
    waited(lambda: THREAD not in {thread.name for thread in threading.enumerate()})


def test_a_wrong_radius_is_explained_beside_the_attack(watching):
    assert "did you mean 9/255" in attacked(watching, "robnet_micro.digits", eps="9", **{"parameter-steps": "2"})


def test_a_picture_of_ones_own_is_attacked(watching, tmp_path):
    Image.fromarray(np.full((40, 50, 3), 200, np.uint8)).save(tmp_path / "grey.png")
    watching.find("#picture").send_keys(str(tmp_path / "grey.png"))
    waited(lambda: "grey.png" in watching.text("#thumbnails"))
    verdict = attacked(watching, "robnet_micro.digits", eps="1/255", **{"parameter-steps": "2"})
    assert verdict.startswith(("Withstood pgd2: still sees ", "Fooled at step "))


def test_the_watched_attack_can_be_read_on_a_phone_and_in_the_dark(watching):
    assert_fits(watching.browser, 390)
    for scheme in ("light", "dark"):
        _, least, text = contrasts(watching.browser, scheme)
        assert least >= 4.5, text
