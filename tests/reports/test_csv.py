"""Reports as CSV."""

from __future__ import annotations

import csv

from robnet_zoo.reports import robustness as report


def test_csv_has_a_row_a_model_and_attack(everything, tmp_path):
    report.write(everything, tmp_path / "report.csv")
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert len(rows) == sum(len(one.measurements) + 1 for one in everything)
    expected = everything[0].measurement("pgd100")
    row = next(row for row in rows if row["attack"] == "pgd100")
    assert (int(row["n"]), int(row["right"])) == (1000, sum(expected.correct))
    assert (float(row["accuracy"]), float(row["low"]), float(row["high"])) == (expected.accuracy, *expected.interval)
    assert (row["eps"], row["seed"], row["forwards"]) == ("8/255", "0", str(sum(expected.forwards)))
    assert row["state_sha256"] == everything[0].model.state_sha256
    assert row["data_sha256"] == everything[0].data.sha256
    assert [row["whole"] for row in rows[-4:]] == ["0"] * 4
