"""The page of a search, taken apart, and the results that it is made from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser

from robnet_zoo.reports.page import html as page_html
from robnet_zoo.reports.search import search_report
from robnet_zoo.search.config import CandidateGroup, Filter
from robnet_zoo.search.result import StudyResult
from robnet_zoo.search.sampling import Sampling
from tests.search.studies import by_convs, made, study, with_distances


class Page(HTMLParser):
    """What a page holds: tags with attributes, tables as rows of text, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: list[list[list[str]]] = []
        self.words: list[str] = []
        self.cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = []

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append("".join(self.cell).strip())
            self.cell = None

    def handle_data(self, data):
        (self.words if self.cell is None else self.cell).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def searched() -> list[StudyResult]:
    groups = [
        CandidateGroup(name="uniform", count=60),
        *(CandidateGroup(name=budget, count=30, sampling=Sampling(budget=budget)) for budget in ("small", "medium")),
        CandidateGroup(name="dense", count=12, sampling=Sampling(density_from=0.5, direct_above=0.5)),
    ]
    free = [CandidateGroup(name="free", count=40, filter=Filter())]
    return [
        study(made(by_convs(0.03, 0.005)), groups=groups),
        study(with_distances([0, 0, 0, 1, 1, 1], sign=-1), kind="cell_free", groups=free),
    ]


def html(results: Sequence[StudyResult]) -> str:
    return page_html(search_report(results))


def verdicts(text: str) -> list[str]:
    return re.findall(r'<p class="verdict"><span>Here:</span> <strong>(.*?)</strong>', text)
