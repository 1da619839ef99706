"""The report of a plan."""

from __future__ import annotations

import csv
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from robnet_zoo.attacks import Pgd
from robnet_zoo.cli import main
from robnet_zoo.errors import ReportError
from robnet_zoo.reports.reproduce import against_parameters, against_steps, write
from robnet_zoo.reproduce.result import Outcomes
from tests.small_plan import made_result


def test_every_table_says_its_scale_and_the_papers_figures_stand_apart(tmp_path: Path) -> None:
    result = made_result()
    result.save(tmp_path / "trial.tiny.json")
    for ending in (".html", ".md"):
        write(result, tmp_path / f"report{ending}")
        text = unescape((tmp_path / f"report{ending}").read_text()).replace("\\", "")
        assert text.count(str(result.scale)) >= 1 + 2 * len(result.parts)
        assert "52.57" in text
    assert not re.search(r"(src|href)=\"http", (tmp_path / "report.html").read_text())
    with pytest.raises(ReportError, match=r"expected a file that ends in \.html, \.md"):
        write(result, tmp_path / "report.pdf")
    main(["reproduce", "report", str(tmp_path / "trial.tiny.json"), "-o", str(tmp_path / "again.html")])
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def test_figures_are_drawn_with_a_point_a_row_and_what_was_measured_beneath(tmp_path: Path) -> None:
    result = made_result()
    write(result, tmp_path / "figure1.html")
    text = (tmp_path / "figure1.html").read_text()
    (drawing,) = re.findall(r"<svg[^>]*Robust accuracy against parameters.*?</svg>", text, re.DOTALL)
    part = result.parts[0]
    for label in ("ResNet-18", "RobNet-free"):
        models = [model for model in part.models if model.label == label]
        right = np.mean([each.bits for model in models for each in model.outcomes if each.attack == "pgd10"])
        (drawn,) = re.findall(rf"<title>{label}, ([\d,]+) parameters: ([\d.]+) %", drawing)
        assert drawn == (f"{models[0].parameters:,}", f"{100 * right:.1f}")
    assert "against steps" not in text


def test_a_model_whose_parameters_are_not_known_has_no_point() -> None:
    part = made_result().parts[0]
    foreign = part.models[0].model_copy(update={"label": "foreign.onnx", "parameters": 0})
    (chart,) = against_parameters(part.model_copy(update={"models": (*part.models, foreign)}), "pgd10", scale="")
    assert [row.cells[0].text for row in chart.table.rows] == ["ResNet-18", "RobNet-free"]


@pytest.mark.parametrize(("step", "lines"), [("2/255", 2), ("1/255", 0)])
def test_accuracies_are_joined_over_steps_where_attacks_differ_in_nothing_else(step: str, lines: int) -> None:
    part = made_result().parts[0]
    attacks = (Pgd(steps=7, step="2/255"), Pgd(steps=10, step=step))
    models = [
        model.model_copy(update={"outcomes": (*model.outcomes, Outcomes(attack="pgd7", correct="1" * part.data.n))})
        for model in part.models
    ]
    protocol = part.protocol.model_copy(update={"attacks": attacks})
    charts = against_steps(part.model_copy(update={"models": tuple(models), "protocol": protocol}), scale="a scale")
    assert sum(chart.drawing.count('class="line ') for chart in charts) == lines
    assert [row.cells[2].text for chart in charts for row in chart.table.rows][::2] == ["100.0"] * lines


def test_csv_has_a_row_a_model_and_attack(tmp_path: Path) -> None:
    result = made_result()
    write(result, tmp_path / "report.csv")
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    expected = [sum(each.bits) for part in result.parts for model in part.models for each in model.outcomes]
    assert [int(row["right"]) for row in rows] == expected
