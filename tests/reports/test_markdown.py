"""Reports as Markdown."""

from __future__ import annotations

from robnet_zoo.reports import robustness as report
from tests.reports.documents import CIFAR


def test_markdown_has_the_summary(everything, tmp_path):
    report.write(everything, tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    heads = next(line for line in lines if line.startswith("| model | parameters"))
    row = next(line for line in lines if line.startswith(f"| robnet_free.cifar10 ({CIFAR}) | 5,439,790"))
    assert heads.count("|") == row.count("|")
    one = everything[0].measurement("pgd100")
    low, high = one.interval
    assert f"{100 * one.accuracy:.1f} ({100 * low:.1f} – {100 * high:.1f})" in row
