"""The charts of accuracies."""

from __future__ import annotations

import pytest

from robnet_zoo.attacks import Fgsm, Pgd
from robnet_zoo.reports.robustness.charts import against_eps, against_parameters, against_steps
from robnet_zoo.reports.robustness.labelled import labelled
from tests.reports.documents import identity, in_turn, result
from tests.reports.pages import html, ids, section


def test_attacks_that_differ_in_more_than_steps_share_no_line(tmp_path):
    attacks = (Pgd(), Pgd(steps=100, step="1/255"), Pgd(steps=40, loss="margin"))
    assert "steps" not in ids(html([result("a", attacks=attacks)], tmp_path))


def test_accuracy_against_eps_begins_with_the_clean_images(tmp_path):
    documents = [result("a", 0.9, 0.9 - 0.05 * k, attacks=(Fgsm(),), eps=f"{k}/255") for k in (8, 2)]
    rows = html([*documents, result("b", attacks=(Fgsm(),))], tmp_path).rows
    heads = rows.index(["model", "eps", "accuracy"])
    assert [row[:2] for row in rows[heads + 1 : heads + 4]] == [["a", "0"], ["a", "2/255"], ["a", "8/255"]]
    accuracies = [documents[0].accuracy("clean"), documents[1].accuracy("fgsm"), documents[0].accuracy("fgsm")]
    assert [float(row[2].split("\n")[0]) / 100 for row in rows[heads + 1 : heads + 4]] == pytest.approx(accuracies)
    assert 'class="mark series-1"' not in section(tmp_path, "eps"), "one eps alone makes no line"


def test_radii_in_l2_are_drawn_in_image_units():
    attacks = (Pgd(norm="l2"),)
    documents = [result("a", 0.9, 0.8 - eps / 2, attacks=attacks, eps=str(eps)) for eps in (0.25, 0.5)]
    charts = against_eps(labelled(documents))
    assert len(charts) == 2  # of the attack and of the worst case
    for chart in charts:
        assert "eps, in image units" in chart.drawing
        assert [row.cells[1].value for row in chart.table.rows] == [0, 0.25, 0.5]
    (levels, _) = against_eps(labelled([result("a", attacks=(Pgd(),), eps=eps) for eps in ("4/255", "8/255")]))
    assert "eps, in 255ths" in levels.drawing


def test_attacks_in_turn_share_no_line_with_those_that_ran_alone():
    apart, turned = result("a", eps="4/255"), in_turn(result("a", eps="8/255"))
    assert [chart.title for chart in against_eps(labelled([apart, turned]))] == [
        "Accuracy against eps: fgsm, cifar10_test.npz"
    ]
    lengths = in_turn(result("a", attacks=(Pgd(), Pgd(steps=100))))
    assert against_steps(labelled([lengths])) == []


def test_the_papers_figures_are_not_drawn_with_what_an_attack_in_turn_found():
    document = result(identity("resnet18", parameters=11_173_962), attacks=(Fgsm(), Pgd(steps=100)))
    assert "RobNet-large" in against_parameters(labelled([document]))[0].drawing
    assert against_parameters(labelled([in_turn(document)])) == []
