"""Plans: what they ask for is there, and is what the paper prints."""

from __future__ import annotations

from functools import cache

import pytest

from robnet_zoo.benchmarks.protocol import load_protocol
from robnet_zoo.genotype.layers import DenoiseForm
from robnet_zoo.reports.robustness.published import published
from robnet_zoo.reproduce.plan import PLANS, PlanRow, load_plan
from robnet_zoo.training import load_recipe
from robnet_zoo.zoo.architecture import costs


@cache
def parameters(architecture: str, denoise: DenoiseForm | None) -> int:
    """Return the parameters of a row's architecture at full size, which many plans ask for."""
    return costs(PlanRow(label="any", architecture=architecture, denoise=denoise).published).parameters


def test_there_is_a_plan_for_every_table_and_figure() -> None:
    assert PLANS.names() == sorted(
        ["table1", "table2", "table3", "table4", "table6", "table7", "table8", "figure1", "figure10"]
    )


@pytest.mark.parametrize("name", PLANS.names())
def test_what_a_plan_names_is_there(name: str) -> None:
    for part in load_plan(name).parts:
        protocol = load_protocol(part.protocol)
        load_recipe(part.recipe)
        assert (protocol.threat == "transfer") == (part.sources is not None)
        assert load_plan(name).order_by in [attack.title for attack in protocol.attacks]
        for row in part.rows:
            assert parameters(row.architecture, row.denoise) > 1e6


@pytest.mark.parametrize(
    ("name", "number"), [("table1", 1), ("table2", 2), ("table6", 6), ("table7", 7), ("figure1", 7)]
)
def test_rows_and_figures_are_those_of_the_paper(name: str, number: int) -> None:
    table = published().table(number)
    column = [each.label for each in table.columns].index("PGD-100")
    (part,) = load_plan(name).parts
    assert {row.label: row.paper for row in part.rows} == {row.model: row.values[column] for row in table.rows}


@pytest.mark.parametrize("name", ["table1", "table6", "table7"])
def test_rows_have_the_papers_parameters_within_two_hundredths(name: str) -> None:
    printed = {row.model: row.parameters for row in published().table(int(name[-1])).rows}
    for row in load_plan(name).parts[0].rows:
        count = parameters(row.architecture, row.denoise)
        if name == "table6" and row.label.startswith("ResNet"):  # whose head the paper leaves out
            count -= 2048 * 1000 + 1000
        assert count / 1e6 == pytest.approx(printed[row.label], rel=0.02), row.label


def test_rows_can_be_chosen_by_the_papers_names() -> None:
    plan = load_plan("table1").with_rows(["resnet-18", "RobNet-free"])
    assert [row.label for row in plan.parts[0].rows] == ["ResNet-18", "RobNet-free"]
    with pytest.raises(ValueError, match=r"table1: expected rows among ResNet-18, .*, got ResNet-19"):
        load_plan("table1").with_rows(["ResNet-19"])
