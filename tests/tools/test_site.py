"""The documentation site: its pages, their links, and the whole in a browser, opened as files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.support.wait import WebDriverWait

from robnet_zoo.errors import ReportError
from tests.browser import headless
from tools import site

KNOWN = {"README.md": "index.md", "docs/spec.md": "spec.md", "docs/guides/ship.md": "guides/ship.md"}


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("README.md", "docs/spec.md", "spec.md"),
        ("docs/spec.md", "../README.md#models", "index.md#models"),
        ("docs/guides/ship.md", "../spec.md", "../spec.md"),
        ("docs/guides/ship.md", "../../LICENSE", "../files/LICENSE"),
        ("README.md", "docs/images/report.png", "images/report.png"),
        ("README.md", "robnet_zoo/benchmarks/results", "results/index.md"),
        ("docs/spec.md", "search_small.html", "results/search_small.html"),
        ("docs/spec.md", "https://arxiv.org", "https://arxiv.org"),
        ("docs/spec.md", "#hash", "#hash"),
    ],
)
def test_a_link_of_the_checkout_leads_to_its_place_on_the_site(source: str, link: str, expected: str) -> None:
    assert site.linked(f"[a]({link})", source, KNOWN[source], KNOWN, {}) == f"[a]({expected})"


def test_a_file_that_is_linked_to_comes_along() -> None:
    files: dict[str, str] = {}
    site.linked("[a](LICENSE)", "README.md", "index.md", KNOWN, files)
    assert files == {"LICENSE": "files/LICENSE"}


def test_a_link_to_nothing_is_refused() -> None:
    with pytest.raises(ReportError, match=r"README.md: expected a link to a page or a file, got docs/nowhere.md"):
        site.linked("[a](docs/nowhere.md)", "README.md", "index.md", KNOWN, {})


def test_every_public_name_has_a_docstring_and_one_without_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.undocumented() == []
    from robnet_zoo.attacks import Fgsm
    from robnet_zoo.data import Images

    monkeypatch.setattr(Images, "split", lambda images: None)
    monkeypatch.setattr(Fgsm, "__doc__", None)  # that of its base is not its own
    assert site.undocumented() == ["robnet_zoo.attacks.Fgsm", "robnet_zoo.data.Images.split"]


def test_every_page_and_every_face_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w./]+\.md", site.CONFIG.read_text(encoding="utf-8")))
    generated = {f"reference/{face}.md" for face in site.FACES} | {"reference/command.md", "results/index.md"}
    assert listed == {*site.pages().values(), *generated}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site, built in the strict mode."""
    pytest.importorskip("mkdocs", reason="the extra `site` is not installed")
    folder = tmp_path_factory.mktemp("site")
    site.gather(folder / "pages")
    config = site.CONFIG.read_text(encoding="utf-8")
    config = config.replace(".build/", "").replace("tools/theme", str(site.ROOT / "tools" / "theme"))
    (folder / "mkdocs.yml").write_text(config.replace('paths: ["."]', f'paths: ["{site.ROOT}"]'), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def browser(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with headless(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.slow  # the whole site is built
def test_search_works_on_pages_that_are_opened_as_files(built: Path, browser: Any) -> None:
    browser.set_window_size(1280, 900)
    browser.get((built / "tour.html").as_uri())
    field = browser.find_element("css selector", "input.md-search__input")
    field.click()
    field.send_keys("catastrophic overfitting")
    links = ".md-search-result__item a"
    WebDriverWait(browser, 30).until(lambda opened: opened.find_elements("css selector", links))
    first = browser.find_element("css selector", links).get_attribute("href")
    assert first.startswith((built / "training.html").as_uri())


@pytest.mark.slow  # the whole site is built
@pytest.mark.parametrize("page", ["index", "tour", "reference/command", "reference/robnet_zoo.search", "results/index"])
def test_a_page_fits_a_phone_fetches_nothing_and_has_nothing_to_complain_of(
    built: Path, browser: Any, page: str
) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get((built / f"{page}.html").as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [address for address in loaded if not address.startswith(("file:", "data:"))] == []
    assert browser.get_log("browser") == []
