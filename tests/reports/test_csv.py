"""Reports as CSV."""

from __future__ import annotations

import csv

from robnet_zoo.attacks import Fgsm
from robnet_zoo.reports import robustness as report
from robnet_zoo.reports.csv import csv as csv_of
from robnet_zoo.reports.elements import Report
from tests.reports.documents import result


def test_csv_has_a_row_a_model_and_attack(everything, tmp_path):
    report.write(everything, tmp_path / "report.csv")
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert len(rows) == sum(len(each.measurements) + 1 for each in everything)
    expected = everything[0].measurement("pgd100")
    row = next(row for row in rows if row["attack"] == "pgd100")
    assert (int(row["n"]), int(row["right"])) == (1000, sum(expected.correct))
    assert (float(row["accuracy"]), float(row["low"]), float(row["high"])) == (expected.accuracy, *expected.interval)
    assert (row["eps"], row["seed"], row["forwards"]) == ("8/255", "0", str(sum(expected.forwards)))
    assert row["state_sha256"] == everything[0].model.state_sha256
    assert row["data_sha256"] == everything[0].data.sha256
    assert [row["whole"] for row in rows[-4:]] == ["0"] * 4


def test_no_text_is_a_formula_and_numbers_stay_numbers(tmp_path):
    inert = {
        **{name: f"'{name}" for name in ("=cmd|'/c calc'!A1", "+1", "-2+3", "@SUM(A1)", "＝1+1")},
        "\t=1": "\\t=1",
        "\r=1": "\\r=1",
        "a\n=1": "a\\n=1",
        **{name: name for name in ("a=b", "résumé", "a,b")},
    }
    report.write([result(name, 0.8, 0.5, attacks=(Fgsm(),)) for name in inert], tmp_path / "report.csv")
    rows = list(csv.DictReader((tmp_path / "report.csv").open(newline="")))
    assert [row["model"] for row in rows[::3]] == list(inert.values())
    assert csv_of(Report("", "", (), ({"gain": -0.5, "count": -3, "text": "-3"},))) == "gain,count,text\n-0.5,-3,'-3\n"
