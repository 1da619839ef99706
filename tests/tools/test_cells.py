"""The page of published robust cells has all of them, and its pictures are current."""

import pytest

from robnet_zoo.converters.literature import GENOTYPES, MSROBNETS, REPORTED
from tools import cells


def test_every_architecture_that_was_searched_for_robustness_is_on_the_page():
    names = {each.name for each in cells.architectures()}
    robust = {name for name, entry in GENOTYPES.items() if entry.robust}
    assert names == {*cells.ROBNETS, *MSROBNETS, *robust}
    assert {entry.name for entry in REPORTED} <= names


def test_every_architecture_has_a_section_with_a_picture_or_a_link_to_one():
    sections = cells.drawings().split("### ")[1:]
    assert [section.splitlines()[0] for section in sections] == [each.title for each in cells.architectures()]
    assert all(section.count("![") + section.count("Its cells are those of") == 1 for section in sections)
    (plus,) = (section for section in sections if section.startswith("WsrNet-Plus"))
    assert "the same function as WsrNet-M-1" in plus


@pytest.mark.parametrize("path", cells.pictures(), ids=lambda path: path.stem)
def test_a_picture_is_current(path):
    assert cells.pictures()[path] == path.read_text(), "run `make docs`"


def test_no_other_picture_lies_there():
    assert {path.name for path in cells.PICTURES.iterdir()} == {path.name for path in cells.pictures()}
