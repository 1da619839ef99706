"""The example images."""

from __future__ import annotations

import pytest

from robnet_zoo.errors import ReportError
from robnet_zoo.reports import robustness as report
from tests.reports.documents import example, result
from tests.reports.pages import Tree


def test_only_the_first_examples_are_shown_and_the_rest_counted(page):
    assert len(Tree(page.read_text()).named("img")) == 3 * 3
    assert "2 more are in the documents" in page.read_text()


def test_an_example_that_is_no_picture_is_an_error_that_names_it(tmp_path):
    broken = example().model_copy(update={"clean": '"><script>'})
    with pytest.raises(ReportError, match="a, pgd20, eps 8/255, image 7: expected a PNG in base64"):
        report.write([result("a", examples=(broken,))], tmp_path / "report.html")
