"""The best candidates of each group, and the specs that were picked."""

from __future__ import annotations

from robnet_zoo.genotype.blueprint import multiply_adds, parameters
from robnet_zoo.reports.elements import Report
from robnet_zoo.reports.page import html as page_html
from robnet_zoo.reports.search.best import picked
from tests.reports.search.search_pages import Page
from tests.search.studies import FULL, SMALL


def test_best_ten_of_each_group_come_first(results, page):
    titles = ["candidate", "robust, %"]
    best = [table for table in page.tables if table[0][:2] == titles]
    assert len(best) == 4
    uniform = sorted(results[0].group("uniform"), key=lambda each: -each.after.robust)
    assert [row[0] for row in best[0][1:]] == [f"uniform {each.index}" for each in uniform[:10]]
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
