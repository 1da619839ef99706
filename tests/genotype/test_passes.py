"""Every pass keeps the function: logits and input gradients agree before and after, in float64, to 1e-9."""

from __future__ import annotations

import pytest
import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from torch import Tensor

from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.passes import (
    CANONICAL_PASSES,
    COMPILER_PASSES,
    Pass,
    apply,
    canonical,
    drop_dead_edges,
    drop_dead_nodes,
    drop_unused_cells,
    drop_unused_operations,
    merge_equal_cells,
)
from robnet_zoo.nn.network import Network
from tests.strategies import changed, disguised, fill, images, specs

PASSES = sorted({*COMPILER_PASSES, *CANONICAL_PASSES}, key=lambda rewrite: rewrite.__name__)
KEEP_KEYS = [rewrite for rewrite in PASSES if rewrite is not drop_dead_nodes]
quick = settings(deadline=None, max_examples=15)


def spec_of(cells: dict[str, object], layout: list[str], operations: list[str]) -> Genotype:
    network = {
        "stem": "cifar",
        "channels": 4,
        "depth": len(layout),
        "reductions": [],
        "num_classes": 3,
        "input_size": [3, 6, 6],
        "affine": True,
    }
    data = {"schema_version": 1, "name": "x", "operations": operations, "cells": cells, "layout": layout}
    return Genotype.parse(data | {"network": network})


def response(network: Network, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits, and the gradient of their weighted sum with respect to the images."""
    inputs = inputs.clone().requires_grad_()
    logits = network(inputs)
    weights = torch.arange(1, logits.numel() + 1, dtype=logits.dtype).view_as(logits)
    (gradient,) = torch.autograd.grad((weights * logits).sum(), inputs)
    return logits.detach(), gradient


def literal(spec: Genotype) -> Network:
    """Return the network of a spec as it stands, dead edges included."""
    network = Network(spec).double().eval()
    fill(network, seed=1)
    return network


def assert_same_function(before: Network, after: Network) -> None:
    inputs = images(before.spec)
    expected, got = response(before, inputs), response(after, inputs)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rewrite", KEEP_KEYS)
@given(data=st.data())
@quick
def test_pass_keeps_logits_gradients_and_weight_keys(rewrite: Pass, data: st.DataObject) -> None:
    spec = data.draw(specs())
    before, after = literal(spec), Network(rewrite(spec)).double().eval()
    weights = before.state_dict()
    after.load_state_dict({key: weights[key] for key in after.state_dict()})
    assert_same_function(before, after)


@given(spec=specs())
@quick
def test_dropping_dead_nodes_keeps_logits_gradients_and_the_order_of_weights(spec: Genotype) -> None:
    before, after = literal(spec), Network(drop_dead_nodes(spec)).double().eval()
    live = Network(drop_dead_edges(spec)).state_dict()
    weights = [tensor for key, tensor in before.state_dict().items() if key in live]
    after.load_state_dict(dict(zip(after.state_dict(), weights, strict=True)))
    assert_same_function(before, after)


@pytest.mark.parametrize("rewrite", PASSES)
@given(data=st.data())
@quick
def test_pass_is_pure_and_returns_the_same_object_when_nothing_changes(rewrite: Pass, data: st.DataObject) -> None:
    spec = data.draw(specs())
    before = spec.dumps()
    once = rewrite(spec)
    assert rewrite(once) is once
    assert spec.dumps() == before


@pytest.mark.parametrize("rewrite", PASSES)
def test_pass_has_work_on_the_specs_that_the_tests_are_made_of(rewrite: Pass) -> None:
    unshrunk = settings(deadline=None, database=None, phases=[Phase.generate])
    example = find(specs(), lambda spec: rewrite(spec) != spec, settings=unshrunk)
    assert rewrite(example) != example


def test_dead_node_is_removed_and_logits_stay() -> None:
    alpha = [[1], [1], [1], [1], [0], [1], [0], [1], [0]]  # node 3 reads 0 and 1, and nothing reads it
    spec = spec_of({"c": {"alpha": alpha, "concat": [2, 4]}}, ["c"], ["sep_conv_3x3"])
    small = drop_dead_nodes(spec)
    assert small.cells["c"].alpha == ((1,), (1,), (1,), (0,), (1,))
    assert small.cells["c"].concat == (2, 3)
    before, after = literal(spec), Network(small).double().eval()
    dead = ("cells.0.edges.0->3", "cells.0.edges.1->3")
    weights = [tensor for key, tensor in before.state_dict().items() if not key.startswith(dead)]
    after.load_state_dict(dict(zip(after.state_dict(), weights, strict=True)))
    assert_same_function(before, after)
    assert response(before, images(spec))[1].abs().min() > 0  # every pixel matters


def test_input_that_only_a_dead_edge_reads_is_not_read_after_dropping_it() -> None:
    spec = spec_of({"c": {"alpha": [[0], [1], [1], [0], [0]], "concat": [2]}}, ["c", "c"], ["sep_conv_3x3"])
    assert any("preprocess.0" in key for key in Network(spec).state_dict())
    assert not any("preprocess.0" in key for key in Network(drop_dead_edges(spec)).state_dict())


def test_unused_operations_go_and_the_others_are_sorted() -> None:
    cell = {"alpha": [[1, 0, 1], [0, 0, 1]], "concat": [2]}
    spec = spec_of({"c": cell}, ["c"], ["sep_conv_3x3", "max_pool_3x3", "identity"])
    rewritten = drop_unused_operations(spec)
    assert rewritten.operations == ("identity", "sep_conv_3x3")
    assert rewritten.cells["c"].alpha == ((1, 1), (1, 0))


def test_equal_cells_become_one_even_where_its_new_name_is_taken() -> None:
    used, other = {"alpha": [[1], [1]], "concat": [2]}, {"alpha": [[0], [1]], "concat": [2]}
    spec = spec_of({"a": used, "cell_0": other, "b": used}, ["a", "b"], ["identity"])
    merged = merge_equal_cells(spec)
    assert merged.layout == ("cell_0", "cell_0")
    assert merged.cells == {"cell_0": spec.cells["a"]}


def test_unused_cells_go_and_names_stay() -> None:
    used, other = {"alpha": [[1], [1]], "concat": [2]}, {"alpha": [[0], [1]], "concat": [2]}
    spec = spec_of({"a": used, "b": other}, ["a"], ["identity"])
    assert list(drop_unused_cells(spec).cells) == ["a"]


@given(spec=specs())
@quick
def test_canonical_is_idempotent_and_keeps_the_hash(spec: Genotype) -> None:
    once = canonical(spec)
    assert canonical(once) is once
    assert once.hash == spec.hash


def nameless(spec: Genotype) -> Genotype:
    return canonical(spec).model_copy(update={"name": "x", "provenance": {}})


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_canonical_forms_are_equal_if_and_only_if_hashes_are(data: st.DataObject) -> None:
    first = data.draw(specs())
    second = data.draw(disguised(first) | changed(first) | specs())
    assert (nameless(first) == nameless(second)) == (first.hash == second.hash)


@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_a_disguised_spec_has_the_same_canonical_form(data: st.DataObject) -> None:
    spec = data.draw(specs())
    assert nameless(data.draw(disguised(spec))) == nameless(spec)


@given(spec=specs())
@quick
def test_no_compiler_pass_leaves_work_for_another(spec: Genotype) -> None:
    compiled = apply(spec, COMPILER_PASSES)
    assert all(rewrite(compiled) is compiled for rewrite in COMPILER_PASSES)
