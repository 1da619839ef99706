"""The page in a real browser: sorted by clicks, on phones, by day and in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import assert_fits, contrasts, headless


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory) -> Iterator[Any]:
    """Headless Chromium with the page of `everything` open."""
    with headless(tmp_path_factory.mktemp("profile")) as opened:
        opened.get(page.as_uri())
        yield opened


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
