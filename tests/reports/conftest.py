"""Fixtures of several files here: documents that fill every section, and their page."""

from __future__ import annotations

from pathlib import Path

import pytest

from robnet_zoo.benchmarks.result import (
    Result,
)
from robnet_zoo.reports import robustness as report
from tests.reports.documents import everything


@pytest.fixture(scope="session", name="everything")
def everything_fixture() -> list[Result]:
    return everything()


@pytest.fixture(scope="session")
def page(everything, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(everything, path)
    return path
