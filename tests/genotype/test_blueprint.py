"""Costs counted on the spec alone equal those of the built network, and the published ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.fx
from hypothesis import given, settings
from torch.utils.flop_counter import FlopCounterMode

from robnet_zoo import compile
from robnet_zoo.genotype.blueprint import Feature, blueprint, multiply_adds, parameters
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.layers import Conv, DenoiseForm, FactorizedConv
from robnet_zoo.genotype.specs import load_spec, spec_names
from tests.strategies import specs


def measured(spec: Genotype) -> tuple[int, int]:
    """Return (parameters, floating-point operations of one image) of the network."""
    model, image = compile(spec).eval(), torch.empty(1, *spec.network.input_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return sum(weights.numel() for weights in model.parameters()), counter.get_total_flops()


@pytest.mark.parametrize("name", spec_names())
def test_costs_of_a_bundled_spec_equal_those_of_its_network(name: str) -> None:
    spec = load_spec(name)
    spec = spec.model_copy(update={"network": spec.network.model_copy(update={"channels": 4})})
    assert (parameters(spec), 2 * multiply_adds(spec)) == measured(spec)


@given(spec=specs())
@settings(deadline=None, max_examples=40)
def test_costs_of_any_spec_equal_those_of_its_network(spec: Genotype) -> None:
    assert (parameters(spec), 2 * multiply_adds(spec)) == measured(spec)


def with_classes(spec: Genotype, num_classes: int) -> Genotype:
    return spec.model_copy(update={"network": spec.network.model_copy(update={"num_classes": num_classes})})


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [
        ("robnet_free", 10, 5_439_790),
        ("robnet_free", 100, 5_491_720),
        ("robnet_large", 10, 6_842_710),
        ("robnet_large_v2", 10, 33_326_666),
        ("robnet_large_imagenet", 1000, 12_756_448),
    ],
)
def test_parameters_equal_the_published_count(name: str, num_classes: int, count: int) -> None:
    assert parameters(with_classes(load_spec(name), num_classes)) == count


@pytest.mark.parametrize(
    ("name", "millions"), [("robnet_large", 6.89), ("robnet_large_v2", 33.42), ("robnet_large_imagenet", 12.76)]
)
def test_parameters_round_to_the_count_that_the_paper_prints(name: str, millions: float) -> None:
    spec = load_spec(name)
    printed = spec if spec.network.num_classes == 1000 else with_classes(spec, 100)
    assert round(parameters(printed) / 1e6, 2) == millions


@pytest.mark.parametrize(("name", "millions"), [("robnet_small", 4.41), ("robnet_medium", 5.66)])
def test_what_the_search_picked_is_as_large_as_the_papers_model(name: str, millions: float) -> None:
    for num_classes in (10, 100):
        assert parameters(with_classes(load_spec(name), num_classes)) == pytest.approx(millions * 1e6, rel=0.05)


@pytest.mark.parametrize(("name", "millions"), [("robnet_free", 780.2), ("robnet_large", 1030.3)])
def test_multiply_adds_equal_the_published_count(name: str, millions: float) -> None:
    assert round(multiply_adds(load_spec(name)) / 1e6, 1) == millions


def test_dead_edges_cost_nothing() -> None:
    data = small_spec()
    data["cells"]["c"] = {"alpha": [[1], [1], [0], [0], [0]], "concat": [2]}
    alive = Genotype.parse(data)
    data["cells"]["c"] = {"alpha": [[1], [1], [1], [1], [1]], "concat": [2]}
    with_dead_node = Genotype.parse(data)
    assert parameters(with_dead_node) == parameters(alive)
    assert multiply_adds(with_dead_node) == multiply_adds(alive)


def small_spec() -> dict[str, Any]:
    network = {
        "stem": "cifar",
        "channels": 4,
        "depth": 3,
        "reductions": [1],
        "num_classes": 5,
        "input_size": [3, 8, 12],
        "affine": False,
    }
    cell = {"alpha": [[1], [1], [1], [1], [1]], "concat": [2, 3]}
    data = {"schema_version": 1, "name": "x", "operations": ["sep_conv_3x3"], "cells": {"c": cell}}
    return data | {"layout": ["c"] * 3, "network": network}


def test_reduction_doubles_channels_halves_the_size_and_the_next_cell_reduces_its_first_input() -> None:
    plan = blueprint(Genotype.parse(small_spec()))
    assert [cell.output for cell in plan.cells] == [Feature(8, (8, 12)), Feature(16, (4, 6)), Feature(16, (4, 6))]
    kinds = [{source: type(block[1]) for source, block in cell.preprocess.items()} for cell in plan.cells]
    assert kinds == [{0: Conv, 1: Conv}, {0: Conv, 1: Conv}, {0: FactorizedConv, 1: Conv}]


def test_only_edges_from_the_inputs_of_a_reduction_cell_have_stride_2() -> None:
    plan = blueprint(Genotype.parse(small_spec()))
    strides = {edge: blocks["sep_conv_3x3"][1].stride for edge, blocks in plan.cells[1].edges.items()}  # type: ignore[union-attr]
    assert strides == {(0, 2): (2, 2), (1, 2): (2, 2), (0, 3): (2, 2), (1, 3): (2, 2), (2, 3): (1, 1)}
    assert all(
        layer.stride == (1, 1)
        for cell in (plan.cells[0], plan.cells[2])
        for blocks in cell.edges.values()
        for layer in blocks["sep_conv_3x3"]
        if isinstance(layer, Conv)
    )


@given(spec=specs())
@settings(deadline=None, max_examples=60)
def test_every_factorized_convolution_of_a_valid_spec_halves_evenly(spec: Genotype) -> None:
    plan = blueprint(spec)
    for cell in plan.cells:
        blocks = [(block, cell.inputs[source].size) for source, block in cell.preprocess.items()]
        blocks += [(block, cell.inner.size) for edge, by_name in cell.edges.items() for block in by_name.values()]
        for block, size in blocks:
            if any(isinstance(layer, FactorizedConv) for layer in block):
                assert block[1].out_channels % 2 == size[0] % 2 == size[1] % 2 == 0  # type: ignore[union-attr]


def test_other_classes_and_input_channels_change_stem_and_head_alone() -> None:
    spec = Genotype.parse(small_spec())
    plain, other = blueprint(spec), blueprint(spec, in_chans=1, num_classes=7)
    assert other.num_classes == 7
    assert other.stem[0][0] == Conv(1, 12, (3, 3))
    assert other.cells == plain.cells


def with_denoise(spec: Genotype, **denoise: object) -> Genotype:
    return spec.model_copy(update={"network": spec.network.model_copy(update={"denoise": denoise})})


@pytest.mark.parametrize(
    ("form", "more_parameters", "more_products"),
    [  # per block of C channels: C * C + 2C, embedded twice C * C/2 more; sizes are 32, 16 and 8 pixels
        ("mean", [144 * 146, 288 * 290, 576 * 578], [1024 * 144**2, 256 * 288**2, 64 * 576**2]),
        ("median", [144 * 146, 288 * 290, 576 * 578], [1024 * 144**2, 256 * 288**2, 64 * 576**2]),
        (
            "dot_product",
            [144 * 146, 288 * 290, 576 * 578],
            [1024 * 144**2 * 3, 256 * 288**2 + 2 * 256**2 * 288, 64 * 576**2 + 2 * 64**2 * 576],
        ),
        (
            "embedded_gaussian",
            [144 * 290, 288 * 578, 576 * 1154],
            [
                1024 * 144**2 * 2 + 1024**2 * 216,
                256 * 288**2 * 2 + 256**2 * 432,
                64 * 576**2 * 2 + 64**2 * 864,
            ],
        ),
    ],
)
def test_cost_is_that_counted_by_hand(form: DenoiseForm, more_parameters: list[int], more_products: list[int]) -> None:
    plain = load_spec("robnet_large")
    spec = with_denoise(plain, after=[5, 12, 19], form=form)
    assert [cell.output.size[0] for cell in blueprint(spec).cells if cell.denoise] == [32, 16, 8]
    assert parameters(spec) == 6_842_710 + sum(more_parameters)
    assert multiply_adds(spec) == multiply_adds(plain) + sum(more_products)
