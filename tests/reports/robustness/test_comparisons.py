"""The comparisons of models on the same images: which pairs a report shows, and a file of all of them."""

from __future__ import annotations

import csv
from itertools import combinations

import pytest

from robnet_zoo.attacks import Fgsm
from robnet_zoo.core.statistics import compare
from robnet_zoo.errors import ReportError
from robnet_zoo.reports import robustness as report
from robnet_zoo.reports.page import html as page
from robnet_zoo.reports.robustness.comparisons import MANY, comparisons, comparisons_report
from robnet_zoo.reports.robustness.labelled import labelled
from robnet_zoo.reports.robustness.report import robustness_report
from tests.reports.documents import CIFAR, identity, in_turn, many, renamed, result
from tests.reports.pages import html, ids


def test_pairs_are_compared_by_mcnemar(tmp_path):
    first, second = result("a", 0.9, 0.7, attacks=(Fgsm(),)), result("b", 0.6, 0.3, attacks=(Fgsm(),))
    row = next(
        row for row in html([first, second], tmp_path).rows if row[:3] == ["a", "b", f"fgsm\neps 8/255, {CIFAR}"]
    )
    expected = compare(first.measurement("fgsm").correct, second.measurement("fgsm").correct)
    assert row[3:5] == [str(expected.first), str(expected.second)]
    assert float(row[6].removeprefix("< ")) == pytest.approx(expected.p, abs=1e-4)
    assert row[7] == "first is better"


@pytest.mark.parametrize("change", [{"data": "other"}, {"n": 100}])
def test_models_on_other_images_are_not_compared(tmp_path, change):
    assert "comparisons" not in ids(html([result("a"), result("b", **change)], tmp_path))


def test_clean_images_are_compared_once_whatever_the_attacks_eps():
    documents = [
        result(name, *((0.9, 0.5) if name == "a" else (0.7, 0.3)), attacks=(Fgsm(),), eps=eps)
        for name in "ab"
        for eps in ("4/255", "8/255")
    ]
    table = comparisons(labelled(documents))
    assert [row.cells[2].text for row in table.rows] == ["clean", "fgsm", "fgsm", "worst case", "worst case"]


def test_pairs_without_any_difference_are_only_counted():
    alike, other = [result(name, attacks=(Fgsm(),)) for name in "ab"], result("c", 0.5, 0.1, attacks=(Fgsm(),))
    assert comparisons(labelled(alike)).quiet.startswith("3 comparisons, each with p = 1 by McNemar's exact test")
    table = comparisons(labelled([*alike, other]))
    assert [row.cells[1].text for row in table.rows] == ["c"] * 6
    assert table.note.endswith("(Bonferroni). 3 comparisons with p = 1 left out.")


def test_worst_cases_of_other_attacks_are_not_compared():
    documents = [result("a"), result("b", 0.6, 0.3, attacks=(Fgsm(),))]
    assert [row.cells[2].text for row in comparisons(labelled(documents)).rows] == ["clean", "fgsm"]


def test_an_attack_in_turn_is_not_compared_with_one_that_ran_alone():
    apart, turned = result("a"), in_turn(result("b", 0.6, 0.3, 0.2))
    assert [row.cells[2].text for row in comparisons(labelled([apart, turned])).rows] == ["clean", "fgsm"]
    both = [in_turn(apart), turned]
    names = ["clean", "fgsm", "pgd20 (after fgsm)", "worst case"]
    assert [row.cells[2].text for row in comparisons(labelled(both)).rows] == names


@pytest.fixture(scope="module")
def crowd():
    return many(3 * MANY)


def test_where_there_are_many_each_is_compared_with_the_most_accurate(crowd):
    table = comparisons(labelled(crowd))
    best = max(crowd, key=lambda document: document.accuracy("pgd20"))
    rows = [row for row in table.rows if row.cells[2].text == "pgd20"]
    assert {row.cells[0].text for row in rows} == {best.model.name}
    assert {row.cells[1].text for row in rows} == {document.model.name for document in crowd} - {best.model.name}
    pairs = len(list(combinations(crowd, 2)))
    assert f"p < 0.05 / {7 * pairs:,} (Bonferroni)" in table.note, "the level of all comparisons"
    assert "robnet-zoo report --comparisons FILE" in table.note


def test_a_file_of_its_own_has_every_pair(crowd, tmp_path):
    report.write(crowd, tmp_path / "report.html", comparisons=tmp_path / "pairs.csv")
    rows = list(csv.DictReader((tmp_path / "pairs.csv").open()))
    assert len(rows) == 7 * len(list(combinations(crowd, 2)))
    row = next(
        row
        for row in rows
        if (row["first"], row["second"], row["attack"]) == (crowd[3].model.name, crowd[8].model.name, "pgd100")
    )
    expected = compare(*(document.measurement("pgd100").correct for document in (crowd[3], crowd[8])))
    assert (int(row["only_first_right"]), int(row["only_second_right"])) == (expected.first, expected.second)
    assert float(row["p"]) == pytest.approx(expected.p)
    assert float(row["difference"]) == pytest.approx(crowd[3].accuracy("pgd100") - crowd[8].accuracy("pgd100"))


def test_the_page_grows_with_the_number_of_documents_and_not_its_square(crowd):
    fewer, more = (len(page(robustness_report(documents))) for documents in (crowd[: len(crowd) * 2 // 3], crowd))
    assert more < 1.5 * fewer
    assert (more - fewer) / (len(crowd) // 3) < 5e6 / 300, "300 documents take less than 5 MB"


def test_nothing_is_written_where_the_comparisons_cannot_be(tmp_path):
    for results, comparisons_path, message in (
        ([result("a")], "pairs.csv", "expected two models measured on the same images"),
        ([result("a"), result("b")], "pairs.pdf", r"expected a file that ends in .*, got '\.pdf'"),
        ([result("a"), result("b")], "report.html", "expected another file for the comparisons"),
    ):
        with pytest.raises(ReportError, match=message):
            report.write(results, tmp_path / "report.html", comparisons=tmp_path / comparisons_path)
    assert list(tmp_path.iterdir()) == []


def test_two_documents_of_one_model_are_not_compared():
    model = identity("a")
    twice = [result(model, 0.8, 0.5, attacks=(Fgsm(),)), result(model, 0.8, 0.4, attacks=(Fgsm(),))]
    assert comparisons(labelled(twice)) is None
    table = (
        comparisons_report([*twice, result(renamed(model, "b"), 0.7, 0.3, attacks=(Fgsm(),))]).sections[0].elements[0]
    )
    assert {row.cells[1].text for row in table.rows} == {"b"}
