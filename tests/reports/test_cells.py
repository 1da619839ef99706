"""Pictures of cells: every operation that matters has a stroke, and nothing else has."""

import re
from xml.etree import ElementTree

import pytest

from robnet_zoo.converters.darts import published
from robnet_zoo.genotype.draw import colours
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.genotype.passes import canonical
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.reports.cells import depths_in_words, picture

SVG = "{http://www.w3.org/2000/svg}"
COLOURS = dict(zip(OPERATIONS, colours(len(OPERATIONS)), strict=True))


def strokes(text: str) -> dict[str, int]:
    """Return how many strokes with an arrow's head have the colour of each operation."""
    drawn = [path.get("stroke") for path in ElementTree.fromstring(text).iter(f"{SVG}path") if "l" in path.get("d")]
    return {name: drawn.count(colour) for name, colour in COLOURS.items() if colour in drawn}


def carried(spec: Genotype) -> dict[str, int]:
    """Return how many edges of the different cells carry each operation."""
    spec = canonical(spec)
    names = [name for cell in spec.cells.values() for _, name in cell.active(spec.operations)]
    return {name: names.count(name) for name in OPERATIONS if name in names}


@pytest.mark.parametrize("spec", [load_spec("robnet_free"), *map(published, ("wsrnet_n", "lrnas_c10", "amoebanet"))])
def test_every_operation_of_every_cell_has_a_stroke_and_a_place_in_the_legend(spec):
    text = picture(spec)
    assert strokes(text) == carried(spec)
    words = [element.text for element in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert all(words.count(name) == 1 for name in carried(spec))


def test_a_zero_is_dashed_and_nodes_of_the_output_are_thick():
    circles = list(ElementTree.fromstring(picture(published("lrnas_c100"))).iter(f"{SVG}circle"))
    assert len(circles) == 12
    assert sum(circle.get("stroke-dasharray") is not None for circle in circles) == 1
    assert sum(circle.get("stroke-width") == "3" for circle in circles) == 8


def test_a_drawing_holds_all_its_strokes():
    root = ElementTree.fromstring(picture(load_spec("robnet_free")))
    _, _, width, height = map(float, root.get("viewBox").split())
    for group in root.iter(f"{SVG}g"):
        left, top = map(float, re.findall(r"[-\d.]+", group.get("transform")))
        for circle in group.iter(f"{SVG}circle"):
            assert 0 < left + float(circle.get("cx")) < width
            assert 0 < top + float(circle.get("cy")) < height


def test_runs_of_depths_are_written_in_short():
    assert depths_in_words([0, 1, 2, 5, 7, 8]) == "0 – 2, 5, 7 – 8"
