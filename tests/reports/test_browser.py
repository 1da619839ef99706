"""The page in a real browser: sorted by clicks, on phones, by day and in the dark."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory) -> Iterator[Any]:
    """Headless Chromium with the page of `everything` open."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium and chromedriver are not installed, and CI must not skip them")
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"):
        options.add_argument(f"--{argument}")
    for argument in ("background-networking", "component-update", "sync", "dev-shm-usage"):
        options.add_argument(f"--disable-{argument}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        opened.get(page.as_uri())
        yield opened
    finally:
        opened.quit()


def column_of_summary(browser: Any, label: str) -> tuple[str, list[str]]:
    """(aria-sort, the column's figures from top to bottom)."""
    return browser.execute_script(
        """
        const table = document.querySelector("#summary table");
        const head = [...table.tHead.rows[0].cells].find((cell) => cell.textContent === arguments[0]);
        const cells = [...table.tBodies[0].rows].map((row) => row.cells[head.cellIndex].cloneNode(true));
        cells.forEach((cell) => cell.querySelectorAll("small").forEach((detail) => detail.remove()));
        return [head.getAttribute("aria-sort"), cells.map((cell) => cell.textContent)];
        """,
        label,
    )


@pytest.mark.parametrize("label", ["pgd100", "parameters", "model", "eps"])
def test_a_click_sorts_a_column_and_a_second_one_turns_it_around(browser, label):
    button = browser.find_element("xpath", f"//section[@id='summary']//button[text()='{label}']")
    before = sorted(column_of_summary(browser, label)[1])
    ways = []
    for _ in range(2):
        browser.execute_script("arguments[0].scrollIntoView({ block: 'center', inline: 'nearest' })", button)
        button.click()
        way, cells = column_of_summary(browser, label)
        known = [cell for cell in cells if cell != "–"]
        keys = known if label == "model" else [float(cell.removesuffix("/255").replace(",", "")) for cell in known]
        assert keys == sorted(keys, reverse=way == "descending")
        assert cells == known + ["–"] * (len(cells) - len(known)), "what is missing stays last"
        assert sorted(cells) == before
        ways.append(way)
    assert set(ways) == {"ascending", "descending"}
    assert len(browser.find_elements("css selector", "#summary [aria-sort]")) == 1
    assert browser.find_element("id", "announcement").get_attribute("textContent") == f"Sorted by {label}, {ways[-1]}."


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_the_page_never_scrolls_sideways(browser, width):
    assert_fits(browser, width)


def assert_fits(browser: Any, width: int) -> None:
    """Ask that nothing of the open page lies beyond a width in pixels."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_script("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    outside = browser.execute_script(
        """
        const inside = (element) => element.closest(".scroll, .unseen, svg");
        return [...document.querySelectorAll("body *")]
          .filter((element) => !inside(element) && element.getBoundingClientRect().right > innerWidth + 0.5)
          .map((element) => element.outerHTML.slice(0, 80));
        """
    )
    assert outside == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def contrasts(browser: Any, scheme: str) -> tuple[float, float, str]:
    """(the page's luminance, the least contrast of a text with what it stands on, that text), as WCAG 2.2 has them."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    return browser.execute_script(
        """
        const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const colours = new Map();
        const rgba = (colour) => {
          if (!colours.has(colour)) {
            context.clearRect(0, 0, 1, 1);
            context.fillStyle = colour;
            context.fillRect(0, 0, 1, 1);
            colours.set(colour, [...context.getImageData(0, 0, 1, 1).data]);
          }
          return colours.get(colour);
        };
        const luminance = ([r, g, b]) => [r, g, b]
          .map((value) => value / 255)
          .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
          .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
        const below = (element) => {
          const colour = rgba(getComputedStyle(element).backgroundColor);
          return colour[3] === 255 || !element.parentElement ? colour : below(element.parentElement);
        };
        let least = [Infinity, ""];
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
          const text = walker.currentNode, element = text.parentElement;
          if (!text.data.trim() || element.closest("script, title")) continue;
          const style = getComputedStyle(element);
          const colour = rgba(element.closest("svg") ? style.fill : style.color);
          const [light, dark] = [luminance(colour), luminance(below(element))].sort((a, b) => b - a);
          const contrast = (light + 0.05) / (dark + 0.05);
          if (contrast < least[0]) least = [contrast, text.data];
        }
        return [luminance(rgba(getComputedStyle(document.body).backgroundColor)), ...least];
        """
    )


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_text_can_be_read_by_day_and_in_the_dark(browser, scheme, dark):
    page, least, text = contrasts(browser, scheme)
    assert page < 0.05 if dark else page > 0.8
    assert least >= 4.5, text


def test_the_browser_loads_nothing_and_has_nothing_to_complain_of(browser):
    loaded = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    assert all(address.startswith("data:") for address in browser.execute_script(loaded))
    assert browser.get_log("browser") == []


def test_the_page_of_a_search_fits_a_phone_and_can_be_read(browser, page):
    browser.get((Path(__file__).parents[2] / "docs" / "search_small.html").as_uri())
    try:
        assert_fits(browser, 375)
        for scheme in ("light", "dark"):
            _, least, text = contrasts(browser, scheme)
            assert least >= 4.5, text
    finally:
        browser.get(page.as_uri())
