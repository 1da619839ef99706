"""Charts of measured accuracies: points and lines stand where their figures are."""

from __future__ import annotations

import re

import pytest

from robnet_zoo.attacks import Fgsm, Pgd
from robnet_zoo.core.statistics import Interval
from robnet_zoo.reports import robustness as report
from robnet_zoo.reports.curves import MOST, MeasuredPoint, lines, scatter
from robnet_zoo.reports.elements import TableCell
from robnet_zoo.reports.svg import Axis
from tests.reports.documents import identity, result
from tests.reports.pages import html, section


def test_points_of_the_chart_stand_where_their_figures_are(tmp_path):
    big, small = identity("big", parameters=10_000_000), identity("small", parameters=10_000)
    shares = {big: (0.9, 0.7), small: (0.6, 0.3)}
    report.write([result(model, *shares[model], attacks=(Fgsm(),)) for model in shares], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    mark = r'<title>(big|small), .*?: ([\d.]+) %.*?<circle class="mark series-0" cx="([\d.]+)" cy="([\d.]+)"'
    tick = r'class="tick" x="32" y="([\d.]+)" text-anchor="end">(\d+)<'
    marks = {name: tuple(map(float, numbers)) for name, *numbers in re.findall(mark, text)}
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


def test_of_many_models_the_most_accurate_have_lines_and_names_and_all_have_figures():
    points = [
        MeasuredPoint(f"m{i}", x, f"{x:g}", TableCell("", accuracy - 0.01 * x), Interval(0.0, 1.0))
        for i, accuracy in enumerate(0.2 + 0.7 * (i * 7 % 40) / 40 for i in range(40))
        for x in (1.0, 2.0)
    ]
    drawn = lines("Steps", points, Axis("steps"), "steps")
    best = {f"m{i}" for i in range(40) if i * 7 % 40 >= 40 - MOST}
    assert {name for _, name in drawn.legend} == best
    assert len(drawn.table.rows) == 80
    assert f"the {MOST} most accurate of 40 models" in drawn.title
    named = set(re.findall(r'class="name"[^>]*>(m\d+)<', scatter("pgd", "", points[::2]).drawing))
    assert named
    assert named <= best
