"""The files that reports are written to."""

from __future__ import annotations

import pytest

from robnet_zoo.errors import ReportError
from robnet_zoo.reports import robustness as report
from tests.reports.documents import result


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ReportError, match=r"expected a file that ends in \.html, \.md, \.csv, got '\.pdf'"):
        report.write([result("a")], tmp_path / "report.pdf")


@pytest.mark.parametrize("name", ["report.html", "report.md", "report.csv"])
def test_a_name_that_is_not_utf_8_is_escaped(name, tmp_path):
    strange = result("a").model_copy(update={"device": "a\udcffb"})
    report.write([strange], tmp_path / name)
    (tmp_path / name).read_bytes().decode()
