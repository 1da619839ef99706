"""The paper's printed tables."""

from __future__ import annotations

import pytest

from robnet_zoo.benchmarks.protocol import load_protocol
from robnet_zoo.reports.robustness.published import published
from robnet_zoo.zoo.baselines import BASELINES
from tests.reports.documents import identity, result


@pytest.mark.parametrize("table", published().tables, ids=lambda table: f"{table.number} {table.data}")
def test_the_bundled_protocol_of_a_table_fills_its_columns(table):
    protocol = load_protocol("pgd100" if table.number in (3, 4, 7) else f"table{table.number}")
    assert (protocol.eps, protocol.threat) == (table.eps, table.threat)
    for column in table.columns:
        fitting = [attack.title for attack in protocol.attacks if column.fits(attack)]
        assert len(fitting) == (column.attack is not None), column.label


@pytest.mark.parametrize(
    ("data", "tables"),
    [
        ("imagenet_val", [6]),
        ("Tiny-ImageNet validation images", [3]),
        ("TinyImageNet", [3]),
        ("ImageNet train", []),
        ("CIFAR-10 test images", [1, 4, 7]),
        ("cifar10-test1k.npz", [1, 4, 7]),
        ("CIFAR-100 test images", [3]),
        ("SVHN test images", [3]),
        ("SVHN training images", []),
        ("digits", []),
    ],
)
def test_a_table_takes_results_on_its_own_data(data, tables):
    white_box = [table for table in published().tables if table.threat == "white_box"]
    fitting = [table.number for table in white_box if table.fits(result("a", eps=table.eps, data=data))]
    assert fitting == tables


@pytest.mark.parametrize("name", BASELINES)
def test_every_comparison_network_has_its_row(name):
    rows = [table.row_of(identity(name)) for table in published().tables if table.number == 7]
    assert rows != [None]


def test_the_paper_agrees_with_itself():
    """Its tables repeat each other: a figure copied wrongly stands alone."""
    tables = {number: published().table(number) for number in (1, 2, 6, 7, 8)}
    first, seventh = ({row.model: row for row in tables[number].rows} for number in (1, 7))
    for row in published().table(4).rows:
        if "Denoise" not in row.model:
            assert row.values == seventh[row.model].values
    labels = [column.label for column in tables[1].columns]
    for model, row in first.items():
        assert seventh[model].values == (row.values[0], row.values[labels.index("PGD-100")])
        assert seventh[model].parameters == row.parameters
        assert list(row.values) == sorted(row.values, reverse=True) or row.values[0] == max(row.values)
    for index, row in enumerate(tables[8].rows):
        copy = next(other for other in tables[2].rows if other.model == row.model)
        assert row.values[index] == copy.values[1] == min(row.values), "an independent copy is the strongest source"
        assert tables[8].columns[index].source == row.model
