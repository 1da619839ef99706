"""A real browser without a window, and what is asked of every page in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def headless(profile: Path) -> Iterator[Any]:
    """Headless Chromium. profile: an empty folder for it. Skips the test where there is none."""
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
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()


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
