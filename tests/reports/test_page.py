"""The page: well-formed, whole by itself, and safe whatever documents say."""

from __future__ import annotations

import re

import numpy as np
import pytest

from robnet_zoo.benchmarks.result import (
    Alarm,
)
from robnet_zoo.reports import robustness as report
from tests.reports.documents import XSS, example, identity, result
from tests.reports.pages import Tree, decoded, html, ids


def test_the_page_is_well_formed(page):
    tree = Tree(page.read_text())
    assert (tree.wrong, tree.open) == ([], [])
    every = [attributes["id"] for _, attributes, _ in tree.elements if "id" in attributes]
    assert len(every) == len(set(every))
    assert {link["href"].removeprefix("#") for link in tree.named("a")} == set(ids(tree))


def test_the_page_loads_nothing_from_elsewhere(page):
    text = page.read_text()
    tree = Tree(text)
    loading = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    addresses = [value for _, attributes, _ in tree.elements for key, value in attributes.items() if key in loading]
    assert addresses
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
    assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttpRequest|import\(", text)


def test_every_table_head_names_its_scope_and_every_drawing_itself(page):
    tree = Tree(page.read_text())
    assert all(head.get("scope") in ("col", "row") for head in tree.named("th"))
    assert all(image.get("alt") for image in tree.named("img"))
    assert all(drawing.get("aria-label") or drawing.get("aria-hidden") for drawing in tree.named("svg"))
    assert len(tree.named("caption")) == len(tree.named("table"))
    assert all("th" in around for name, _, around in tree.elements if name == "button")


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_a_name_is_never_markup(tmp_path, suffix):
    first = result(XSS, alarms=(Alarm(name="zero_gradients", text=XSS),), examples=(example(attack=XSS),))
    second = result(identity("b", parameters=5), source=identity(XSS + "2"), data=XSS)
    others = [result(identity("c" + XSS, parameters=9), eps=eps) for eps in ("4/255", "2/255")]
    path = tmp_path / f"report{suffix}"
    report.write([first, second, *others], path)
    text = path.read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    if suffix == ".html":
        tree = Tree(text)
        assert (len(tree.named("script")), tree.wrong) == (1, [])
    else:
        assert "](javascript" not in text.replace("\\]", "")
        heads = [line.count("|") for line in text.splitlines() if line.startswith("|")]
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
        assert max(heads) > max(cells), "the name's own bar is there, escaped"


def test_the_same_documents_give_the_same_bytes(everything, page, tmp_path):
    report.write([*everything, everything[0]], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_an_example_is_shown_with_its_difference_enlarged(tmp_path):
    tree = html([result("a", examples=(example(),))], tmp_path)
    clean, difference, attacked = (decoded(image["src"]) for image in tree.named("img"))
    assert (np.abs(attacked.astype(int) - clean) == 8).all()
    assert np.array_equal(difference, 128 + 12 * (attacked.astype(int) - clean))
    text = (tmp_path / "report.html").read_text()
    assert "difference × 12" in text
    assert "at most 8/255" in text
    assert "seen as class 3, then as class 5" in text
