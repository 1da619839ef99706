"""Specs: every mistake is found and named, nothing can be changed, and the hash is that of the function."""

from __future__ import annotations

import copy
import json
import pickle
import time
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import torch
import torch.fx
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robnet_zoo import compile
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.genotype import Edge, FrozenDict, Genotype, edges
from robnet_zoo.genotype.layers import DENOISE_FORMS
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.genotype.passes import drop_dead_nodes
from robnet_zoo.genotype.specs import SPECS, load_spec, spec_names
from robnet_zoo.nn.layers import build
from robnet_zoo.nn.network import Network
from tests.small_networks import SEPARABLE, genotype
from tests.strategies import changed, disguised, fill, images, specs

Change = Callable[[dict[str, Any]], object]


def valid() -> dict[str, Any]:
    """Return a spec of two cells of two nodes, [identity, sep_conv_3x3], three deep, one reduction."""
    return {
        "schema_version": 1,
        "name": "small",
        "operations": ["identity", "sep_conv_3x3"],
        "cells": {
            "normal_3": {"alpha": [[1, 0], [1, 1], [0, 0], [0, 1], [1, 0]], "concat": [2, 3]},
            "reduce": {"alpha": [[1, 0], [1, 1], [0, 0], [0, 1], [1, 0]], "concat": [2, 3]},
        },
        "layout": ["normal_3", "reduce", "normal_3"],
        "network": {
            "stem": "cifar",
            "channels": 4,
            "depth": 3,
            "reductions": [1],
            "num_classes": 10,
            "input_size": [3, 8, 8],
            "affine": False,
        },
        "provenance": {"source": "a test", "seed": 1},
    }


def put(*path: Any) -> Change:
    """Return a change that puts the last argument at the place that the others name."""
    *steps, value = path

    def change(data: dict[str, Any]) -> None:
        target: Any = data
        for step in steps[:-1]:
            target = target[step]
        target[steps[-1]] = value

    return change


def drop(*path: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        target: Any = data
        for step in path[:-1]:
            target = target[step]
        del target[path[-1]]

    return change


def problems(*changes: Change) -> tuple[str, ...]:
    """Return what is wrong with the valid spec after these changes, given as JSON."""
    data = valid()
    for change in changes:
        change(data)
    with pytest.raises(DocumentError) as error:
        Genotype.loads(json.dumps(data))
    assert str(error.value).isprintable()
    return error.value.problems


CELL = ("cells", "normal_3")
ALPHA = (*CELL, "alpha")
MISTAKES: dict[str, tuple[Change, str]] = {
    "bit 2": (put(*ALPHA, 4, 1, 2), "cells.normal_3.alpha[4][1]: expected 0 or 1, got 2"),
    "bit -1": (put(*ALPHA, 4, 1, -1), "cells.normal_3.alpha[4][1]: expected 0 or 1, got -1"),
    "bit true": (put(*ALPHA, 4, 1, True), "cells.normal_3.alpha[4][1]: expected 0 or 1, got true"),
    "bit false": (put(*ALPHA, 4, 1, False), "cells.normal_3.alpha[4][1]: expected 0 or 1, got false"),
    "bit 1.0": (put(*ALPHA, 4, 1, 1.0), "cells.normal_3.alpha[4][1]: expected 0 or 1, got 1.0"),
    "bit text": (put(*ALPHA, 4, 1, "1"), 'cells.normal_3.alpha[4][1]: expected 0 or 1, got "1"'),
    "bit null": (put(*ALPHA, 4, 1, None), "cells.normal_3.alpha[4][1]: expected 0 or 1, got null"),
    "bit list": (put(*ALPHA, 4, 1, [1]), "cells.normal_3.alpha[4][1]: expected 0 or 1, got [1]"),
    "bit huge": (put(*ALPHA, 4, 1, 10**20), f"cells.normal_3.alpha[4][1]: expected 0 or 1, got {10**20}"),
    "row no list": (put(*ALPHA, 4, 1), "cells.normal_3.alpha[4]: expected a list, got 1"),
    "row too long": (
        put(*ALPHA, 4, [1, 0, 1]),
        "cells.normal_3.alpha[4]: expected 2 values, one an operation, got 3",
    ),
    "row too short": (put(*ALPHA, 4, [1]), "cells.normal_3.alpha[4]: expected 2 values, one an operation, got 1"),
    "row empty": (put(*ALPHA, 4, []), "cells.normal_3.alpha[4]: expected 2 values, one an operation, got 0"),
    "edges missing": (
        put(*ALPHA, [[1, 1]] * 4),
        "cells.normal_3.alpha: expected 2, 5, 9, 14, ... edges (2 + 3 + ... a node), got 4",
    ),
    "no edges": (put(*ALPHA, []), "cells.normal_3.alpha: expected 2, 5, 9, 14, ... edges (2 + 3 + ... a node), got 0"),
    "too many edges": (put(*ALPHA, [[1, 1]] * 595), "cells.normal_3.alpha: expected at most 560 of them, got 595"),
    "alpha missing": (drop(*ALPHA), "cells.normal_3.alpha: missing"),
    "alpha misspelt": (put(*CELL, "alhpa", []), "cells.normal_3: unknown key \"alhpa\", did you mean 'alpha'?"),
    "concat descending": (
        put(*CELL, "concat", [3, 2]),
        "cells.normal_3.concat: expected one or more nodes in ascending order, got [3, 2]",
    ),
    "concat twice": (
        put(*CELL, "concat", [2, 2]),
        "cells.normal_3.concat: expected one or more nodes in ascending order, got [2, 2]",
    ),
    "concat empty": (
        put(*CELL, "concat", []),
        "cells.normal_3.concat: expected one or more nodes in ascending order, got []",
    ),
    "concat beyond": (put(*CELL, "concat", [2, 4]), "cells.normal_3.concat[1]: expected a node from 2 to 3, got 4"),
    "concat input": (put(*CELL, "concat", [1, 2]), "cells.normal_3.concat[0]: expected at least 2, got 1"),
    "no cells": (put("cells", {}), "cells: expected one or more, got none"),
    "cell null": (put(*CELL, None), "cells.normal_3: expected an object, got null"),
    "cell name": (
        put("cells", "a b", valid()["cells"]["reduce"]),
        'cells["a b"]: expected a letter, then letters, digits and _, got "a b"',
    ),
    "cell name surrogate": (
        put("cells", "\ud800", valid()["cells"]["reduce"]),
        'cells["\\ufffd\\ufffd\\ufffd"]: expected a text, got "\\ud800"',
    ),
    "operation": (
        put("operations", 1, "sep_conv3x3"),
        "operations[1]: unknown operation \"sep_conv3x3\", did you mean 'sep_conv_3x3'?",
    ),
    "operation twice": (
        put("operations", 1, "identity"),
        'operations: expected each operation once, got "identity" 2 times',
    ),
    "no operations": (put("operations", []), "operations: expected one or more, got none"),
    "operation number": (put("operations", 1, 3), "operations[1]: expected a text, got 3"),
    "layout short": (put("layout", ["normal_3"] * 2), "layout: expected 3 cells (network.depth), got 2"),
    "layout empty": (put("layout", []), "layout: expected 3 cells (network.depth), got 0"),
    "layout cell": (put("layout", 2, "normal3"), "layout[2]: unknown cell \"normal3\", did you mean 'normal_3'?"),
    "layout text": (put("layout", "normal_3"), 'layout: expected a list, got "normal_3"'),
    "reductions order": (
        put("network", "reductions", [2, 1]),
        "network.reductions: expected depths in ascending order, got [2, 1]",
    ),
    "reduction too deep": (
        put("network", "reductions", [1, 3]),
        "network.reductions[1]: expected a depth from 0 to 2, got 3",
    ),
    "reduction below 0": (put("network", "reductions", [-1]), "network.reductions[0]: expected at least 0, got -1"),
    "height": (
        put("network", "input_size", [3, 7, 8]),
        "network.input_size[1]: expected a height that 2 divides, got 7",
    ),
    "width": (
        put("network", "input_size", [3, 8, 9]),
        "network.input_size[2]: expected a width that 2 divides, got 9",
    ),
    "two sizes": (put("network", "input_size", [8, 8]), "network.input_size[2]: missing"),
    "four sizes": (put("network", "input_size", [1, 3, 8, 8]), "network.input_size: expected at most 3 of them, got 4"),
    "channels 0": (put("network", "channels", 0), "network.channels: expected at least 1, got 0"),
    "channels float": (put("network", "channels", 4.0), "network.channels: expected an integer, got 4.0"),
    "channels true": (put("network", "channels", True), "network.channels: expected an integer, got true"),
    "classes 0": (put("network", "num_classes", 0), "network.num_classes: expected at least 1, got 0"),
    "stem": (put("network", "stem", "imagenett"), "network.stem: expected 'cifar' or 'imagenet', got \"imagenett\""),
    "affine 1": (put("network", "affine", 1), "network.affine: expected a valid boolean, got 1"),
    "network key": (put("network", "chanels", 4), "network: unknown key \"chanels\", did you mean 'channels'?"),
    "key": (put("nmae", "x"), "unknown key \"nmae\", did you mean 'name'?"),
    "name missing": (drop("name"), "name: missing"),
    "name": (put("name", "a\n"), 'name: expected a letter, then letters, digits and _, got "a\\n"'),
    "name too long": (
        put("name", "a" * 101),
        f'name: expected at most 100 characters, got "{"a" * 56}...',
    ),
    "provenance key": (put("provenance", "sed", 4), "provenance: unknown key \"sed\", did you mean 'seed'?"),
    "provenance text": (put("provenance", "paper", "\ud800"), 'provenance.paper: expected a text, got "\\ud800"'),
    "version 0": (put("schema_version", 0), "schema_version: expected 1, got 0"),
    "version true": (put("schema_version", True), "schema_version: expected 1, got true"),
    "version 1.0": (put("schema_version", 1.0), "schema_version: expected 1, got 1.0"),
    "version missing": (drop("schema_version"), "schema_version: missing"),
}


@pytest.mark.parametrize(("change", "problem"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_is_named_with_its_place(change: Change, problem: str) -> None:
    assert problems(change) == (problem,)


def test_the_spec_that_the_mistakes_start_from_is_valid() -> None:
    assert Genotype.parse(valid()) == Genotype.loads(json.dumps(valid()))


def test_mistakes_at_one_level_are_reported_together() -> None:
    reported = problems(put("nmae", 1), drop("layout"), put(*ALPHA, 0, 1, 2), put("network", "stm", 1))
    assert reported == (
        "unknown key \"nmae\", did you mean 'name'?",
        "cells.normal_3.alpha[0][1]: expected 0 or 1, got 2",
        "layout: missing",
        "network: unknown key \"stm\", did you mean 'stem'?",
    )


def test_unknown_cells_and_operations_are_reported_beside_mistakes_of_form() -> None:
    reported = problems(put("layout", 2, "normal3"), put("operations", 0, "idntity"), put("network", "depth", "three"))
    assert reported == (
        "operations[0]: unknown operation \"idntity\", did you mean 'identity'?",
        "layout[2]: unknown cell \"normal3\", did you mean 'normal_3'?",
        'network.depth: expected an integer, got "three"',
    )


def test_mistakes_across_a_well_formed_spec_are_reported_together() -> None:
    reported = problems(
        put("operations", 0, "skip"),
        put("layout", ["normal_3", "nrmal_3"]),
        put("network", "reductions", [1, 9]),
        put("network", "input_size", [3, 9, 8]),
    )
    assert [problem.split(":")[0] for problem in reported] == [
        "operations[0]",
        "layout",
        "layout[1]",
        "network.reductions[1]",
        "network.input_size[1]",
    ]  # fmt: skip


def test_later_schema_is_refused_for_that_reason_alone() -> None:
    problem = "schema_version: expected 1, got 2; a newer robnet_zoo reads it"
    assert problems(put("schema_version", 2), put("new_key", 1), drop("layout")) == (problem,)


def test_the_former_name_of_a_hash_in_the_provenance_is_read() -> None:
    older = valid() | {"provenance": {"weights_sha256": "ab" * 32}}
    spec = Genotype.parse(older)
    assert spec.provenance.state_sha256 == "ab" * 32
    assert "weights_sha256" not in spec.dumps()


def zero_nodes(*rows: list[int], operations: tuple[str, ...] = ("identity", "sep_conv_3x3")) -> set[int]:
    data = valid()
    normal = {"alpha": [[1] * len(operations)] * 5, "concat": [2, 3]}
    data["cells"] = {"normal_3": normal, "reduce": {"alpha": list(rows), "concat": [3]}}
    data |= {"operations": operations, "layout": ["normal_3"] * 3}
    return set(Genotype.parse(data).cells["reduce"].zeros(operations))


def test_node_that_nothing_reaches_is_zero_and_so_is_its_identity() -> None:
    assert zero_nodes([0, 0], [0, 0], [0, 1], [0, 0], [1, 0]) == {2}
    assert zero_nodes([0, 0], [0, 0], [0, 0], [0, 0], [1, 0]) == {2, 3}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_keeps_a_zero_if_it_has_no_norm(operation: str) -> None:
    has_norm = any(isinstance(module, nn.BatchNorm2d) for module in build(OPERATIONS[operation].layers(4, 1, True)))
    zeros = zero_nodes([0], [0], [0], [0], [1], operations=(operation,))
    assert zeros == ({2} if has_norm else {2, 3})


def test_operation_that_adds_a_zero_does_not_change_the_hash_and_one_with_a_norm_does() -> None:
    def hashed(*row: int) -> str:
        data = valid()
        data["cells"]["reduce"] = {"alpha": [[0, 0], [0, 0], [0, 1], [1, 0], list(row)], "concat": [2, 3]}
        return Genotype.parse(data | {"layout": ["normal_3", "reduce", "normal_3"]}).hash

    assert hashed(0, 0) == hashed(1, 0)
    assert len({hashed(0, 0), hashed(0, 1)}) == 2


@pytest.mark.parametrize("depth", [0, 1])
def test_cell_of_zeros_is_allowed_where_others_read_its_inputs(depth: int) -> None:
    data = valid()
    data["cells"]["zero"] = {"alpha": [[0, 0], [0, 0]], "concat": [2]}
    data["layout"][depth] = "zero"
    assert Genotype.parse(data).cells["zero"].live_nodes == {2}


def test_a_network_without_operations_is_told_so() -> None:
    zeros = put("cells", "zeros", {"alpha": [[0, 0]] * 2, "concat": [2]})
    assert problems(zeros, put("layout", ["zeros"] * 3)) == (
        "cells.zeros.alpha: expected one or more operations, got zeros alone",
    )


def test_stem_that_nothing_reads_is_named() -> None:
    zeros, only_second = {"alpha": [[0, 0]] * 2, "concat": [2]}, {"alpha": [[0, 0], [1, 0]], "concat": [2]}
    cells = put("cells", {"zeros": zeros, "only_second": only_second})
    skipped = "network.stem: expected layout[0] or layout[1] to read this output, got a network that skips it"
    assert problems(cells, put("layout", ["zeros", "only_second", "only_second"])) == (skipped,)


def test_node_that_nothing_feeds_and_nothing_reads_is_allowed() -> None:
    data = valid()
    data["cells"]["reduce"] = {"alpha": [[1, 0], [1, 1], [0, 0], [0, 0], [0, 0]], "concat": [2]}
    assert Genotype.parse(data).cells["reduce"].live_nodes == {0, 1, 2}


ONLY_FIRST = {"alpha": [[1, 0], [0, 0], [0, 0], [0, 0], [1, 0]], "concat": [2, 3]}


def test_cell_whose_output_nothing_reads_is_named() -> None:
    assert problems(put("cells", "only_first", ONLY_FIRST), put("layout", 2, "only_first")) == (
        "layout[1]: expected layout[2] to read this output, got a network that skips it",
    )
    assert problems(
        put("cells", "only_first", ONLY_FIRST), put("layout", ["normal_3", "only_first", "only_first"])
    ) == ("layout[1]: expected layout[2] to read this output, got a network that skips it",)


def test_cell_that_only_the_one_after_the_next_reads_is_used() -> None:
    data = valid()
    data["cells"]["only_first"] = ONLY_FIRST
    assert Genotype.parse(data | {"layout": ["normal_3", "only_first", "normal_3"]})


def imagenet(data: dict[str, Any]) -> None:
    data["network"] |= {"stem": "imagenet", "input_size": [3, 32, 32]}


def test_imagenet_stem_wants_even_channels_and_sizes_that_16_divides() -> None:
    assert problems(imagenet, put("network", "channels", 5), put("network", "input_size", [3, 24, 32])) == (
        "network.input_size[1]: expected a height that 16 divides, got 24",
        "network.channels: expected an even number for the imagenet stem, got 5",
    )


def test_stem_stage_that_nothing_reads_is_named() -> None:
    only_second = {"alpha": [[0, 0], [1, 0], [0, 0], [0, 0], [1, 0]], "concat": [2, 3]}
    changes = put("cells", "first", ONLY_FIRST), put("cells", "second", only_second)
    assert problems(imagenet, *changes, put("layout", ["first", "second", "second"])) == (
        "network.stem: expected layout[0] or layout[1] to read this output, got a network that skips it",
    )


def test_odd_channels_are_right_with_the_cifar_stem() -> None:
    data = valid()
    data["network"]["channels"] = 3
    spec = Genotype.parse(data)
    assert compile(spec)(torch.rand(2, 3, 8, 8)).shape == (2, 10)


HOSTILE = {
    "bits": json.dumps({"cells": {f"c{i}": {"alpha": [[2, 2]] * 500, "concat": [2]} for i in range(100)}}),
    "cells": json.dumps({"cells": {f"c{i}": {"x": 1} for i in range(25_000)}}),
    "keys": json.dumps({f"{i}": 0 for i in range(40_000)}),
    "layout": json.dumps(valid() | {"layout": ["normal"] * 40_000}),
    "name": json.dumps(valid() | {"name": "a" * 500_000}),
    "nesting": "[" * 100_000_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_document_is_refused_in_one_short_line_within_seconds(text: str) -> None:
    start = time.process_time()
    with pytest.raises(DocumentError) as error:
        Genotype.loads(text)
    assert time.process_time() - start < 10
    assert len(str(error.value)) < 1000


def test_a_spec_is_read_in_milliseconds() -> None:
    text = SPECS.path("robnet_large_v2").read_bytes()
    times = []
    for _ in range(5):
        start = time.process_time()
        Genotype.loads(text)
        times.append(time.process_time() - start)
    assert min(times) < 0.02


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_any_value_anywhere_gives_a_network_or_one_printable_line(data: st.DataObject) -> None:
    spec = valid()
    target: Any = spec
    while True:
        key = data.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else list(range(len(target)))))
        if not (isinstance(target[key], (dict, list)) and target[key] and data.draw(st.booleans())):
            break
        target = target[key]
    scalars = st.none() | st.booleans() | st.integers(-2, 40) | st.floats(0, 2) | st.text(max_size=3)
    target[key] = data.draw(scalars | st.lists(scalars, max_size=4) | st.sampled_from([[], {}, [[1, 0]] * 5]))
    try:
        parsed = Genotype.parse(spec)
    except DocumentError as error:
        message = str(error)
    else:
        message = ""
        assert Network(parsed).eval()(images(parsed).float()).isfinite().all()
    assert message.isprintable()


# Frozen


def test_cells_cannot_be_changed() -> None:
    spec = Genotype.parse(valid())
    cell = spec.cells["reduce"]
    for change in (
        lambda: spec.cells.__setitem__("x", cell),
        lambda: spec.cells.__delitem__("reduce"),
        lambda: spec.cells.update(x=cell),
        lambda: spec.cells.pop("reduce"),
        lambda: spec.cells.popitem(),
        lambda: spec.cells.clear(),
        lambda: spec.cells.setdefault("x", cell),
        lambda: spec.cells.__ior__({"x": cell}),
    ):
        with pytest.raises(TypeError, match="frozen"):
            change()
    assert list(spec.cells) == ["normal_3", "reduce"]


def test_a_spec_does_not_share_the_mapping_that_it_was_made_from() -> None:
    data = valid()
    spec = Genotype.parse(data)
    data["cells"]["reduce"]["alpha"][0][0] = 7
    data["cells"].clear()
    assert spec == Genotype.parse(valid())


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda spec: pickle.loads(pickle.dumps(spec))])
def test_copy_is_equal_and_as_frozen(duplicate: Callable[[Genotype], Genotype]) -> None:
    spec = Genotype.parse(valid())
    other = duplicate(spec)
    assert other == spec
    assert hash(other) == hash(spec)
    assert isinstance(other.cells, FrozenDict)


def test_equal_specs_have_equal_python_hashes_in_any_order_of_cells() -> None:
    data = valid()
    data["cells"] = dict(reversed(data["cells"].items()))
    first, second = Genotype.parse(valid()), Genotype.parse(data)
    assert first == second
    assert len({first, second}) == 1


def test_changed_copy_has_its_own_hash_and_is_validated() -> None:
    spec = Genotype.parse(valid())
    before = spec.hash
    wider = spec.model_copy(update={"network": spec.network.model_copy(update={"channels": 8})})
    assert wider.hash != before
    assert isinstance(wider.cells, FrozenDict)
    with pytest.raises(DocumentError, match="layout: expected 3 cells"):
        spec.model_copy(update={"layout": ("reduce",)})


# Hash


HASHES = {
    "robnet_free": "af8c09fce3e1076070e42c33073f970add2e320d1bc41390f2e3795d1025ce79",
    "robnet_large": "bae9022b8f3c43aeb11183dd2598cb44873f2fa716f6471b85273c35f35501c7",
    "robnet_large_v2": "1dc131da9d05eac4665473cb234cff72d6683adac597eb1ed7baacac9aae5e5f",
    "robnet_large_imagenet": "48530a7f3d44be18b9326e680d3d508436bc83134b740302a6158b25f9bae11d",
}


@pytest.mark.parametrize(("name", "expected"), HASHES.items())
def test_hash_of_a_published_architecture_never_changes(name: str, expected: str) -> None:
    assert load_spec(name).hash == expected  # weights and results are filed under it


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_what_does_not_change_the_function_does_not_change_the_hash(data: st.DataObject) -> None:
    spec = data.draw(specs())
    assert data.draw(disguised(spec)).hash == spec.hash


@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_what_changes_the_function_changes_the_hash(data: st.DataObject) -> None:
    spec = data.draw(specs())
    assert data.draw(changed(spec)).hash != spec.hash


def test_formatting_and_key_order_do_not_change_the_hash() -> None:
    data = valid()
    reordered = {key: data[key] for key in sorted(data, reverse=True)}
    reordered["network"] = dict(sorted(data["network"].items()))
    spec = Genotype.parse(data)
    for text in (json.dumps(reordered), json.dumps(data, indent=7), spec.dumps()):
        assert Genotype.loads(text).hash == spec.hash


@pytest.mark.parametrize("part", ["channels", "num_classes", "input_size", "affine", "reductions", "stem"])
def test_every_part_of_the_network_is_in_the_hash(part: str) -> None:
    other = {
        "channels": 8,
        "num_classes": 9,
        "input_size": [3, 16, 16],
        "affine": True,
        "reductions": [2],
        "stem": "imagenet",
    }
    data = valid()
    data["network"]["input_size"] = [3, 32, 32]
    before = Genotype.parse(data).hash
    data["network"][part] = other[part]
    assert Genotype.parse(data).hash != before


def shapes(model: Network) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in model.state_dict().values()]


def logits(spec: Genotype, seed: int) -> torch.Tensor:
    """Return the logits of a network whose weights depend on their order and shapes alone."""
    model = compile(spec).double().eval()
    fill(model, seed)
    with torch.no_grad():
        return model(images(spec, seed=seed))  # type: ignore[no-any-return]


@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_equal_hashes_mean_equal_weights_in_order_and_equal_logits(data: st.DataObject) -> None:
    spec = data.draw(specs())
    other = data.draw(disguised(spec))
    assert shapes(compile(spec)) == shapes(compile(other))
    torch.testing.assert_close(logits(other, 0), logits(spec, 0), rtol=1e-9, atol=1e-9)


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_different_hashes_mean_different_weights_or_logits(data: st.DataObject) -> None:
    spec = data.draw(specs(channels=(4, 6)))
    other = data.draw(changed(spec))
    same_weights = shapes(compile(spec)) == shapes(compile(other))
    assert not same_weights or any((logits(spec, seed) - logits(other, seed)).abs().max() > 1e-6 for seed in range(5))


# Quantities


def test_edges_are_ordered_by_target_then_source() -> None:
    assert [str(edge) for edge in edges(2)] == ["0->2", "1->2", "0->3", "1->3", "2->3"]
    assert edges(2)[0] == Edge((0, 2)) == (0, 2)
    assert [len(edges(nodes)) for nodes in (0, 1, 2, 3, 4)] == [0, 2, 5, 9, 14]


@given(spec=specs())
@settings(deadline=None, max_examples=40)
def test_density_counts_and_budget_equal_those_of_the_built_network(spec: Genotype) -> None:
    carried = [
        (key.split("->"), name) for cell in compile(spec).cells for key, edge in cell.edges.items() for name in edge
    ]
    convs = [(int(target) - int(source)) for (source, target), name in carried if "conv" in name]
    assert spec.direct_convs == sum(step == 1 for step in convs)
    assert spec.skip_convs == sum(step > 1 for step in convs)
    mean = len(convs) / len(spec.layout)
    assert spec.budget == ("small" if mean <= 7 else "medium" if mean <= 10 else "large")
    whole = Network(drop_dead_nodes(spec))  # with the operations that add a zero, which the compiler leaves out
    on = [sum(len(edge) for edge in cell.edges.values()) for cell in whole.cells]
    pairs = [len(spec.cells[name].alpha) * len(spec.operations) for name in spec.layout]
    assert spec.density == pytest.approx(sum(a / b for a, b in zip(on, pairs, strict=True)) / len(on))


def test_robnet_large_has_the_published_convolutions_and_budget() -> None:
    spec = load_spec("robnet_large")
    assert spec.convs(spec.layout[0]) == (3, 10)
    assert spec.budget == "large"
    assert spec.density == pytest.approx(22 / 28)


@pytest.mark.parametrize(("convs", "budget"), [(7, "small"), (8, "medium"), (10, "medium"), (11, "large")])
def test_budget_counts_convolutions_a_cell(convs: int, budget: str) -> None:
    data = valid()
    alpha = [[1, int(row < convs)] for row in range(14)]
    data["cells"] = {name: {"alpha": alpha, "concat": [2, 3, 4, 5]} for name in data["cells"]}
    assert Genotype.parse(data).budget == budget


def test_dead_edges_count_neither_for_density_nor_as_convolutions() -> None:
    data = valid()
    data["cells"]["normal_3"] = data["cells"]["reduce"] = {
        "alpha": [[0, 1], [0, 1], [0, 1], [1, 1], [1, 1]],
        "concat": [2],
    }
    spec = Genotype.parse(data)
    assert spec.convs("reduce") == (1, 1)
    assert spec.density == pytest.approx(2 / 10)


# JSON Schema


@pytest.mark.parametrize("name", spec_names())
def test_json_schema_accepts_bundled_specs(name: str) -> None:
    jsonschema.validate(json.loads(SPECS.path(name).read_bytes()), Genotype.model_json_schema())


@pytest.mark.parametrize(
    "change",
    [
        put("nmae", 1),
        drop("name"),
        put(*ALPHA, 0, 0, 2),
        put("network", "stem", "x"),
        put("name", "a b"),
        put("layout", 3),
    ],
    ids=["unknown", "missing", "bit", "stem", "name", "layout"],
)
def test_json_schema_refuses_what_an_outside_reader_can_see(change: Change) -> None:
    data = valid()
    change(data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, Genotype.model_json_schema())


def with_denoise(spec: Genotype, **denoise: object) -> Genotype:
    return spec.model_copy(update={"network": spec.network.model_copy(update={"denoise": denoise})})


def test_specs_without_denoising_keep_their_hash() -> None:
    # As they were before the key existed; bundled weights and results are bound to them.
    assert load_spec("robnet_free").hash.startswith("af8c09fce3e10760")
    assert load_spec("robnet_large").hash.startswith("bae9022b8f3c43ae")


def test_denoising_is_written_read_and_part_of_the_hash() -> None:
    plain = load_spec("robnet_large")
    specs = [plain]
    specs += [with_denoise(plain, after=[5, 12, 19], form=form) for form in DENOISE_FORMS]
    specs += [with_denoise(plain, after=[5], form="mean")]
    assert len({spec.hash for spec in specs}) == len(specs)
    assert [Genotype.loads(spec.dumps()) for spec in specs] == specs
    assert "denoise" not in plain.dumps()


@pytest.mark.parametrize(
    ("denoise", "message"),
    [
        ({"after": [0, 3], "form": "mean"}, "network.denoise.after[1]: expected a depth from 0 to 2, got 3"),
        ({"after": [1, 0], "form": "mean"}, "network.denoise.after: expected depths in ascending order, got [1, 0]"),
        ({"after": [1, 1], "form": "mean"}, "network.denoise.after: expected depths in ascending order, got [1, 1]"),
        ({"after": [], "form": "mean"}, "network.denoise.after: expected at least 1 of them, got 0"),
        ({"after": [-1], "form": "mean"}, "network.denoise.after[0]: expected at least 0, got -1"),
        ({"after": [0], "form": "gaussian"}, "network.denoise.form: expected 'dot_product', 'embedded_gaussian'"),
        ({"after": [0]}, "network.denoise.form: missing"),
        ({"after": [0], "form": "mean", "k": 3}, 'network.denoise: unknown key "k"'),
    ],
)
def test_mistakes_are_named(denoise: object, message: str) -> None:
    with pytest.raises(DocumentError) as raised:
        genotype({"a": SEPARABLE}, "aaa", denoise=denoise)
    assert message in str(raised.value)
