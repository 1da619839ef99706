"""Drawings of cells: their file, and a colour for each operation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robnet_zoo.errors import ArgumentError
from robnet_zoo.genotype.draw import COLOURS, colours, draw_cell, draw_network
from robnet_zoo.genotype.genotype import MAX_OPERATIONS, Genotype
from robnet_zoo.genotype.operations import OPERATIONS
from tests.small_networks import EVERYTHING, FIRST_INPUT, SEPARABLE, UNREACHED, genotype


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


def test_a_network_is_drawn_with_every_cell_its_inputs_and_the_size_of_its_output(tmp_path: Path) -> None:
    spec = genotype({"a": SEPARABLE, "b": FIRST_INPUT}, "aba", denoise={"after": [2], "form": "mean"})
    draw_network(spec, tmp_path / "network.svg")
    text = (tmp_path / "network.svg").read_text()
    texts = re.findall("<!-- (.*?) -->", text)
    assert texts == [
        *("stem: cifar", "12 × 8×8"),
        *("0: a", "reads stem; 8 × 8×8"),
        *("1: b", "reads stem; 8 × 4×4"),
        *("2: a", "reads 0, 1; 16 × 4×4, denoised"),
        *("pool, linear", "5 classes"),
        "small: 3 cells",
        *("identity", "sep_conv_3x3"),
    ]
    operations = [[*OPERATIONS].index(name) for name in ("identity", "sep_conv_3x3")]
    assert all(text.count(COLOURS[index]) > 3 for index in operations)


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
        (None, "network.bmp", "path: expected a file that ends in .svg or .png, got 'network.bmp'"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_written(
    tmp_path: Path, cell: str | None, file: str, message: str
) -> None:
    spec = genotype({"a": EVERYTHING}, "aaa")
    with pytest.raises(ArgumentError, match=message):
        draw_network(spec, tmp_path / file) if cell is None else draw_cell(spec, cell, tmp_path / file)
    assert not list(tmp_path.iterdir())
