"""The paper's own numbers beside those of a search."""

from __future__ import annotations

import re


def test_papers_numbers_stand_beside_as_the_papers(page):
    for number in ("98.7 %", "50.3 %", "0.006", "68 of 300"):
        assert re.search(rf"The paper: [^<]{{0,300}}{re.escape(number)}", page.text), number
