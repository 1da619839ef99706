"""Drawings of cells: their file, and a colour for each operation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robnet_zoo.errors import ArgumentError
from robnet_zoo.genotype.draw import COLOURS, colours, draw_cell
from robnet_zoo.genotype.genotype import MAX_OPERATIONS, Genotype
from robnet_zoo.genotype.operations import OPERATIONS
from tests.small_networks import EVERYTHING, SEPARABLE, UNREACHED, genotype


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_the_suffix_is_the_format(tmp_path: Path, suffix: str, magic: bytes) -> None:
    picture = tmp_path / f"cell{suffix}"
    draw_cell(genotype({"a": EVERYTHING}, "aaa"), "a", picture)
    assert picture.read_bytes().startswith(magic)


def test_a_node_that_no_input_reaches_is_marked_and_its_identity_left_out(tmp_path: Path) -> None:
    without = UNREACHED | {"2->3": [name for name in UNREACHED["2->3"] if name != "identity"]}
    for name, cell in (("with", UNREACHED), ("without", without)):
        draw_cell(genotype({"a": SEPARABLE, "b": cell}, "ab"), "b", tmp_path / f"{name}.svg")
    picture, expected = ((tmp_path / f"{name}.svg").read_text() for name in ("with", "without"))
    assert picture.count("<!-- zero -->") == 1
    assert picture.count(COLOURS[0]) == expected.count(COLOURS[0]) > 0


def test_the_fixed_colours_differ_and_come_first() -> None:
    assert len(set(COLOURS)) == len(COLOURS)
    assert colours(len(COLOURS) + 1)[:-1] == COLOURS


def test_any_number_of_operations_has_different_colours_that_more_operations_do_not_change() -> None:
    many = colours(MAX_OPERATIONS)
    assert len(set(many)) == MAX_OPERATIONS
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in many)
    assert all(many[:count] == colours(count) for count in range(MAX_OPERATIONS))


def test_a_tenth_operation_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tenth = dict(OPERATIONS) | {"tenth": OPERATIONS["sep_conv_3x3"]}
    monkeypatch.setattr("robnet_zoo.genotype.genotype.OPERATIONS", tenth)
    document = genotype({"a": EVERYTHING}, "aaa").model_dump(mode="json")
    document["operations"].append("tenth")
    for row in document["cells"]["a"]["alpha"]:
        row.append(1)
    draw_cell(Genotype.parse(document), "a", tmp_path / "cell.svg")
    assert colours(10)[9] in (tmp_path / "cell.svg").read_text()
    assert len(set(colours(10))) == 10


@pytest.mark.parametrize(
    ("cell", "file", "message"),
    [
        ("b", "cell.svg", "name: unknown cell 'b', expected one of a"),
        ("a", "cell.bmp", "path: expected a file that ends in .svg or .png, got 'cell.bmp'"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_written(
    tmp_path: Path, cell: str, file: str, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        draw_cell(genotype({"a": EVERYTHING}, "aaa"), cell, tmp_path / file)
    assert not list(tmp_path.iterdir())
