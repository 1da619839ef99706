"""Findings on tables of trained cells: what is read, what is refused, and numbers that are known."""

import csv
import json
import random

import pytest
from scipy import stats

from robnet_zoo.converters.literature import GENOTYPES
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.search.analysis.tables import read_table, table_findings

ADVRUSH = {key: list(map(list, value)) if isinstance(value[0], tuple) else list(value)
           for key, value in GENOTYPES["advrush"].genotype.items()}  # fmt: skip


def written(folder, text, name="table.csv"):
    (folder / name).write_text(text)
    return folder / name


def test_a_cell_of_nas_bench_201_is_counted_by_its_edges(tmp_path):
    # 0->1 and 1->2 are direct and carry convolutions, 0->3 is not; 0->2 is an identity, 1->3 none, 2->3 a pool.
    ((cell,), clean) = read_table(written(tmp_path, "operations,robust\n312304,0.4\n"))
    assert (cell.density, cell.direct, cell.skip, cell.robust, clean) == (5 / 24, 2, 1, 0.4, None)


@pytest.mark.parametrize("form", ["object", "text", "json text"])
def test_a_genotype_of_darts_is_counted_as_its_spec(tmp_path, form):
    text = "Genotype(" + ", ".join(f"{key}={value!r}" for key, value in ADVRUSH.items()) + ")"
    given = {"object": ADVRUSH, "text": text, "json text": json.dumps(ADVRUSH)}[form]
    rows = [{"genotype": given, "layers": 8, "robust": 41.5, "clean": 75}]
    ((cell,), clean) = read_table(written(tmp_path, json.dumps(rows), "table.json"))
    # Depths 2 and 5 of 8 are reductions: 2 of their 3 convolutions, and 1 of the 7 of a normal cell, are direct.
    assert (cell.direct, cell.skip) == ((6 * 1 + 2 * 2) / 8, (6 * 6 + 2 * 1) / 8)
    assert (cell.robust, cell.clean, clean) == (0.415, 0.75, "clean")


def test_a_spec_is_counted_as_a_study_counts_it(tmp_path):
    spec = load_spec("robnet_large")
    rows = [{"spec": spec.model_dump(mode="json"), "robust": 0.5}, {"spec": spec.dumps(), "robust": 0.5}]
    cells, _ = read_table(written(tmp_path, json.dumps(rows), "table.json"))
    assert {(cell.direct, cell.skip) for cell in cells} == {(3, 10)}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return a table of random cells whose accuracy is the number of convolutions, more for direct ones."""
    draw = random.Random(0)
    rows = []
    for _ in range(300):
        digits = "".join(draw.choice("01234") for _ in range(6))
        convs = [digit in "23" for digit in digits]
        score = sum(convs) + 0.5 * (convs[0] + convs[2] + convs[5]) + draw.random() / 10
        rows.append((digits, score / 10, score / 20))
    path = tmp_path_factory.mktemp("table") / "cells.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("operations", "robust", "accuracy"), *rows])
    return path


def test_the_numbers_are_scipys_and_direct_convolutions_are_seen_beside_their_number(table):
    result = table_findings(table, clean="accuracy")
    numbers = {number.name: number for number in result.evidence}
    with table.open() as file:
        rows = list(csv.DictReader(file))
    convs = [sum(digit in "23" for digit in row["operations"]) for row in rows]
    expected = stats.spearmanr(convs, [float(row["robust"]) for row in rows]).statistic
    assert numbers["convolutions"].estimate.value == pytest.approx(expected)
    assert numbers["clean accuracy"].estimate.value == pytest.approx(1)
    direct = numbers["share of direct convolutions at equal numbers of convolutions"]
    assert (direct.verdict, direct.deciding) == ("holds", True)
    pairs = [row for row, count in zip(rows, convs, strict=True) if count == 2]
    on = [sum(row["operations"][edge] in "23" for edge in (0, 2, 5)) for row in pairs]
    expected = stats.spearmanr(on, [float(row["robust"]) for row in pairs]).statistic
    assert numbers["share of direct convolutions, 2 a cell"].estimate.value == pytest.approx(expected)
    assert (result.n, result.space, result.clean) == (300, "cells", "accuracy")


def test_a_number_that_does_not_vary_has_no_estimate_and_says_why(tmp_path):
    rows = "".join(f"33333{i % 2 * 3},0.{i}1\n" for i in range(8))
    numbers = {n.name: n for n in table_findings(written(tmp_path, f"operations,robust\n{rows}")).evidence}
    assert numbers["clean accuracy"].estimate is None
    assert "expected" in numbers["clean accuracy"].missing
    assert numbers["density"].verdict == "undecided"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected one or more rows, got none"),
        ("operations,robust\n", "expected one or more rows, got none"),
        ("cell,robust\n312304,0.4\n", "expected one column out of operations, genotype, spec, got none"),
        ("operations,genotype,robust\n312304,,0.4\n", "got operations and genotype"),
        ("operations,pgd\n312304,0.4\n", 'expected a column "robust", expected one of operations, pgd, got none'),
        ("operations,robust\n312305,0.4\n", 'row 1: operations: expected six digits from 0 to 4, got "312305"'),
        ("operations,robust\n12304,0.4\n", 'row 1: operations: expected six digits from 0 to 4, got "12304"'),
        ("operations,robust\n312304,nan\n", 'row 1: robust: expected an accuracy, 0 to 1 or in percent, got "nan"'),
        ("operations,robust\n312304,0.4\n312304,\n", "row 2: robust: expected an accuracy"),
        ("operations,robust\n312304,101\n", "row 1: robust: expected an accuracy"),
        ("operations,robust\n312304\n", "row 1: expected as many values as the header has"),
        ("genotype,robust\nGenotype(,0.4\n", "row 1: genotype: not Python"),
        ('[{"genotype": {"normal": []}, "robust": 1}]', "row 1: genotype: normal_concat: missing"),
        ('[{"genotype": 3, "robust": 1}]', "row 1: genotype: expected"),
        ('[{"operations": 312304, "robust": 1}]', "row 1: operations: expected six digits from 0 to 4, got 312304"),
        ('[{"operations": "312304", "robust": true}]', "row 1: robust: expected an accuracy"),
        ('[{"operations": "312304", "robust": 1}, {"robust": 1}]', "row 2: operations: missing"),
        (f'[{{"operations": "312304", "robust": {10**400}}}]', "row 1: robust: expected an accuracy"),
        ("[1]", "expected a list of objects, one a row, got [1]"),
        ('{"operations": "312304"}', "expected a list of objects"),
    ],
)
def test_what_is_wrong_is_named_with_its_row_in_a_line(tmp_path, text, message):
    with pytest.raises(DocumentError) as raised:
        read_table(written(tmp_path, text))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_published_tables_give_the_correlations_that_are_known_of_them(official):
    path = official.parent / "tables" / "nas_robbench_201.csv"
    if not path.is_file():
        pytest.skip("the tables are not here")
    result = table_findings(path, robust="cifar10#autoattack", clean="cifar10#val_acc")
    values = {number.name: round(number.estimate.value, 2) for number in result.evidence}
    assert (values["density"], values["convolutions"], values["clean accuracy"]) == (0.08, 0.79, 0.98)
    shares = [value for name, value in values.items() if name.endswith("a cell")]
    assert (min(shares), max(shares), len(shares)) == (0.11, 0.22, 5)
