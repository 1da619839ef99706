"""The drawings of a search's figures."""

from __future__ import annotations

import re


def test_every_picture_has_a_text_and_the_pages_colours(text, page):
    pictures = [attributes for tag, attributes in page.tags if attributes.get("role") == "img"]
    assert len(pictures) == 9  # 3a, 3b, 4a, 4b, 5, 6a, 6b, the front, and 7 and 8
    assert all(len(picture["aria-label"]) > 20 for picture in pictures)
    others = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") != "img"]
    assert all(other["aria-hidden"] == "true" for other in others)  # marks in legends, and panels of a picture
    inside = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert not re.findall(r"style=|fill=|stroke=|#[0-9a-fA-F]{3}", inside)  # the page's style gives all colours
    assert set(re.findall(r"series-\d", inside)) <= set(re.findall(r"\.(series-\d) \{ --series: var", text))
