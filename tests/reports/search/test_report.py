"""The report of a search: one page, whole by itself, that says what it found and at what scale."""

from __future__ import annotations

import csv
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from robnet_zoo.errors import SearchError
from robnet_zoo.genotype.blueprint import multiply_adds, parameters
from robnet_zoo.reports.elements import Report
from robnet_zoo.reports.page import html as page_html
from robnet_zoo.reports.search import search_report, write
from robnet_zoo.reports.search.best import picked
from robnet_zoo.search.config import CandidateGroup, Filter
from robnet_zoo.search.result import Accuracy, StudyResult
from robnet_zoo.search.sampling import Sampling
from tests.search.studies import FULL, SMALL, by_convs, by_density, by_nothing, made, study, with_distances

XSS = '<script>alert("x")</script>&<img src=x onerror=alert(1)>'
NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


class Page(HTMLParser):
    """What a page holds: tags with attributes, tables as rows of text, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: list[list[list[str]]] = []
        self.words: list[str] = []
        self.cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = []

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append("".join(self.cell).strip())
            self.cell = None

    def handle_data(self, data):
        (self.words if self.cell is None else self.cell).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def searched() -> list[StudyResult]:
    groups = [
        CandidateGroup(name="uniform", count=60),
        *(CandidateGroup(name=one, count=30, sampling=Sampling(budget=one)) for one in ("small", "medium")),
        CandidateGroup(name="dense", count=12, sampling=Sampling(density_from=0.5, direct_above=0.5)),
    ]
    free = [CandidateGroup(name="free", count=40, filter=Filter())]
    return [
        study(made(by_convs(0.03, 0.005)), groups=groups),
        study(with_distances([0, 0, 0, 1, 1, 1], sign=-1), kind="cell_free", groups=free),
    ]


def html(results) -> str:
    return page_html(search_report(results))


@pytest.fixture(scope="module")
def results() -> list[StudyResult]:
    return searched()


@pytest.fixture(scope="module")
def text(results) -> str:
    return html(results)


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def verdicts(text: str) -> list[str]:
    return re.findall(r'<p class="verdict"><span>Here:</span> <strong>(.*?)</strong>', text)


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


def test_every_picture_has_a_text_and_the_pages_colours(text, page):
    pictures = [attributes for tag, attributes in page.tags if attributes.get("role") == "img"]
    assert len(pictures) == 9  # 3a, 3b, 4a, 4b, 5, 6a, 6b, the front, and 7 and 8
    assert all(len(one["aria-label"]) > 20 for one in pictures)
    others = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") != "img"]
    assert all(one["aria-hidden"] == "true" for one in others)  # marks in legends, and panels of a picture
    inside = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert not re.findall(r"style=|fill=|stroke=|#[0-9a-fA-F]{3}", inside)  # the page's style gives all colours
    assert set(re.findall(r"series-\d", inside)) <= set(re.findall(r"\.(series-\d) \{ --series: var", text))


def test_page_is_in_two_schemes_and_in_print(text):
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert 'name="viewport"' in text


def test_same_documents_give_the_same_bytes(text, tmp_path):
    write(searched(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == text.encode()


def test_verdicts_are_those_that_were_planted(text):
    assert verdicts(text) == ["holds", "holds", "does not hold"]
    assert verdicts(html([study(made(by_density(-1)), n=60)])) == ["does not hold", "undecided", "undecided"]
    assert verdicts(html([study(made(by_nothing), n=60)])) == ["undecided"] * 3


def test_papers_numbers_stand_beside_as_the_papers(page):
    for number in ("98.7 %", "50.3 %", "0.006", "68 of 300"):
        assert re.search(rf"The paper: [^<]{{0,300}}{re.escape(number)}", page.text), number


def test_every_table_says_the_scale_but_that_of_the_differences(text):
    tables = re.findall(r'<figure class="table">.*?</figure>', text, flags=re.DOTALL)
    without = [one for one in tables if "Scale: " not in one]
    assert len(without) == 1
    assert "Where this search differs from the paper" in without[0]
    assert (
        "Scale: cell-based, 4 channels, 6 cells, 32×32 pixels; finetuned 3 epochs on 1,234 images; PGD-7 at 8/255 on "
        "500 held-out images; seed 7, supernet ab12cd34ab12."
    ) in text


def test_best_ten_of_each_group_come_first(results, page):
    titles = ["candidate", "robust, %"]
    best = [table for table in page.tables if table[0][:2] == titles]
    assert len(best) == 4
    uniform = sorted(results[0].group("uniform"), key=lambda one: -one.after.robust)
    assert [row[0] for row in best[0][1:]] == [f"uniform {one.index}" for one in uniform[:10]]
    assert best[0][1][1] == f"{100 * uniform[0].after.robust:.1f}"
    assert "cell-free, group free Not shown: no candidate was finetuned." in page.text


def test_picks_are_shown_at_full_width_with_what_was_measured(results):
    result = results[0]
    candidate = result.group("small")[3]
    full = FULL.model_copy(update={"depth": SMALL.depth, "reductions": SMALL.reductions})
    spec = result.space.genotype(candidate.codes, name="picked_small", network=full)
    report = Report("picks", "", (picked([result], [(spec, candidate)]),), ())
    (table,) = Page(page_html(report)).tables
    row = dict(zip(table[0], table[1], strict=True))
    assert row["spec"] == "picked_small"
    assert row["candidate"] == "small 3"
    assert row["parameters"] == f"{parameters(spec):,}"
    assert row["multiply-adds, millions"] == f"{multiply_adds(spec) / 1e6:,.1f}"
    assert row["robust in the search, %"] == f"{100 * candidate.after.robust:.1f}"


def test_text_of_documents_is_escaped():
    text = html([study(made(by_nothing), n=12, description=XSS, data=XSS)])
    assert "<script" not in text
    assert "<img" not in text
    assert Page(text).text.count('<script>alert("x")</script>') == 2


@pytest.mark.parametrize("kind", ["cell_based", "cell_free"])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_too_few_candidates_give_a_page_that_says_what_is_missing(kind, n):
    text = html([study(made(by_density(1)), n=n, kind=kind)])
    assert verdicts(text) == ["undecided"] * 3
    assert re.search(r"Not shown: expected \d+ or more .*candidates.*, got \d\.", text)


def test_candidates_without_measurements_give_a_page():
    text = html([study(lambda spec, draw: (None, None, ()), n=30), study(_alike, n=30, kind="cell_free")])
    assert verdicts(text) == ["undecided"] * 3
    assert "expected values that differ, got the same one of all 30 candidates" in text


def _alike(spec, draw):
    same = Accuracy(clean=0.5, robust=0.3)
    return same, same, (0.1,) * SMALL.depth


def test_results_of_one_kind_twice_and_none_are_refused(results, tmp_path):
    with pytest.raises(SearchError, match="expected one or two results of different kinds, got none"):
        write([], tmp_path / "report.html")
    with pytest.raises(SearchError, match="got cell_based, cell_based"):
        write([results[0], results[0]], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


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
