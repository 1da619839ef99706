"""The charts of accuracies."""

from __future__ import annotations

import re

import pytest

from robnet_zoo.attacks import Fgsm, Pgd
from robnet_zoo.reports import robustness as report
from tests.reports.documents import identity, result
from tests.reports.pages import html, ids, section


def test_points_of_the_chart_stand_where_their_figures_are(tmp_path):
    big, small = identity("big", parameters=10_000_000), identity("small", parameters=10_000)
    shares = {big: (0.9, 0.7), small: (0.6, 0.3)}
    report.write([result(model, *shares[model], attacks=(Fgsm(),)) for model in shares], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    mark = r'<title>(big|small), .*?: ([\d.]+) %.*?<circle class="mark series-0" cx="([\d.]+)" cy="([\d.]+)"'
    tick = r'class="tick" x="32" y="([\d.]+)" text-anchor="end">(\d+)<'
    marks = {name: tuple(map(float, place)) for name, *place in re.findall(mark, text)}
    ticks = [(float(y) - 4, float(value)) for y, value in re.findall(tick, text)]
    (y_low, low), (y_high, high) = ticks[0], ticks[-1]
    for value, _, y in marks.values():
        assert low + (y_low - y) / (y_low - y_high) * (high - low) == pytest.approx(value, abs=0.1)
    assert marks["big"][1] > marks["small"][1] + 200


def test_lines_go_from_the_fewest_steps_to_the_most(tmp_path):
    attacks = (Pgd(steps=100), Pgd(steps=7), Pgd(steps=20))
    document = result("a", 0.9, 0.3, 0.6, 0.5, attacks=attacks)
    rows = html([document], tmp_path).rows
    heads = rows.index(["model", "steps", "accuracy"])
    accuracies = [100 * document.accuracy(f"pgd{steps}") for steps in (7, 20, 100)]
    assert [row[1] for row in rows[heads + 1 : heads + 4]] == ["7", "20", "100"]
    assert [float(row[2].split("\n")[0]) for row in rows[heads + 1 : heads + 4]] == pytest.approx(accuracies)
    (line,) = re.findall(r'<path class="line series-0" stroke-dasharray="" d="M(\d.*?)"', section(tmp_path, "steps"))[
        :1
    ]
    points = [tuple(map(float, point.split())) for point in line.split("L")]
    assert points == sorted(points)
    assert [y for _, y in points] == sorted(y for _, y in points), "fewer images right stands lower"


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
