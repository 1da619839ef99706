"""The report of a search: one page, whole by itself."""

from __future__ import annotations

import csv
import re
from collections import Counter

import pytest

from robnet_zoo.errors import SearchError
from robnet_zoo.reports.search import search_report, write
from robnet_zoo.search.analysis import Observed, fsp
from tests.reports.search.search_pages import Page, html, searched
from tests.search.studies import by_density, by_nothing, made, study, with_distances

XSS = '<script>alert("x")</script>&<img src=x onerror=alert(1)>'
NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_page_needs_nothing_else(text, page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "base")
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.findall(r"@import|url\((?!#)", text)
    assert set(re.findall(r"https?://[^\"' )<]+", text)) <= NAMESPACES


def test_ids_are_unique_and_every_reference_has_one(text, page):
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert max(ids.values()) == 1
    named = {
        attributes[name][1:] for _, attributes in page.tags for name in ("href", "xlink:href") if name in attributes
    }
    assert named | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_page_is_in_two_schemes_and_in_print(text):
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert 'name="viewport"' in text


def test_same_documents_give_the_same_bytes(text, tmp_path):
    write(searched(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == text.encode()


def test_text_of_documents_is_escaped():
    text = html([study(made(by_nothing), n=12, description=XSS, data=XSS)])
    assert "<script" not in text
    assert "<img" not in text
    assert Page(text).text.count('<script>alert("x")</script>') == 2


def test_results_of_one_kind_twice_and_none_are_refused(results, tmp_path):
    with pytest.raises(SearchError, match="expected one or two results of different kinds, got none"):
        write([], tmp_path / "report.html")
    with pytest.raises(SearchError, match="got cell_based, cell_based"):
        write([results[0], results[0]], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("depth", [5, 6])
def test_the_mean_distance_is_of_the_cells_that_the_figure_takes_as_deeper(depth):
    result = study(with_distances(range(depth)), n=20, kind="cell_free")
    last = fsp(Observed.from_result(result).uniform).last
    rows = search_report([result]).rows
    expected = [sum(candidate.fsp[-last:]) / last for candidate in result.candidates]
    assert [row["fsp_of_last_half"] for row in rows] == expected


@pytest.mark.parametrize("suffix", [".md", ".csv"])
def test_the_report_is_written_in_other_forms(tmp_path, suffix):
    results = [study(made(by_density(1)), n=5)]
    write(results, tmp_path / f"report{suffix}")
    text = (tmp_path / f"report{suffix}").read_text()
    if suffix == ".csv":
        rows = list(csv.DictReader(text.splitlines()))
        robust = [float(row["robust"]) for row in rows]
        assert robust == [candidate.after.robust for candidate in results[0].candidates]
    else:
        assert "## The paper's three findings" in text
        assert "Not shown: expected" in text
