"""Fixtures of several files here: results of both kinds of search, and their page."""

from __future__ import annotations

import pytest

from robnet_zoo.search.result import StudyResult
from tests.reports.search.search_pages import Page, html, searched


@pytest.fixture(scope="session")
def results() -> list[StudyResult]:
    return searched()


@pytest.fixture(scope="session")
def text(results) -> str:
    return html(results)


@pytest.fixture(scope="session")
def page(text) -> Page:
    return Page(text)
