"""What a change makes of a draft."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import TypeAdapter

from robnet_zoo.editor.changes import PASSES, AnyChange
from robnet_zoo.editor.draft import Draft
from robnet_zoo.errors import EditorError, RobnetZooError
from robnet_zoo.genotype.genotype import Genotype, edges
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.genotype.passes import canonical
from robnet_zoo.genotype.specs import SPECS

CHANGE = TypeAdapter(AnyChange)


def changed(draft: Draft, **change: Any) -> Draft:
    return CHANGE.validate_python(change).apply(draft)


@pytest.fixture
def draft(tiny) -> Draft:
    return Draft.of_spec(tiny)


def carried(draft: Draft, name: str = "cell") -> set[tuple[int, int, str]]:
    """Return the (source, target, operation) that are on, dead ones too."""
    cell = draft.cells[name]
    rows = zip(edges(cell.nodes), cell.alpha, strict=True)
    return {(*edge, op) for edge, row in rows for op, bit in zip(draft.operations, row, strict=True) if bit}


@pytest.mark.parametrize("edge", [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)])
@pytest.mark.parametrize("operation", ["identity", "sep_conv_3x3"])
def test_a_switch_changes_its_operation_on_its_edge_alone_and_a_second_one_changes_it_back(draft, edge, operation):
    change = {"kind": "switch", "cell": "cell", "source": edge[0], "target": edge[1], "operation": operation}
    after = changed(draft, **change)
    assert carried(after) ^ carried(draft) == {(*edge, operation)}
    assert changed(after, **change) == draft


def test_clear_leaves_the_nodes_without_operations(draft):
    after = changed(draft, kind="clear", cell="cell")
    assert carried(after) == set()
    assert after.cells["cell"].concat == draft.cells["cell"].concat


def test_a_new_node_stands_in_the_output_without_edges(draft):
    after = changed(draft, kind="add_node", cell="cell")
    assert after.cells["cell"].nodes == 3
    assert after.cells["cell"].concat == (2, 3, 4)
    assert carried(after) == carried(draft)


def test_the_nodes_behind_a_removed_one_move_up():
    draft = Draft.of_spec(SPECS.own("robnet_free"))
    name = draft.layout[0]
    after = changed(draft, kind="remove_node", cell=name, node=3)
    move = {0: 0, 1: 1, 2: 2, 4: 3, 5: 4}
    left = {(s, t, op) for s, t, op in carried(draft, name) if 3 not in (s, t)}
    assert carried(after, name) == {(move[s], move[t], op) for s, t, op in left}
    assert after.cells[name].concat == tuple(move[node] for node in draft.cells[name].concat if node != 3)


def test_joining_takes_a_node_out_of_the_output_and_back(draft):
    out = changed(draft, kind="join", cell="cell", node=2)
    assert out.cells["cell"].concat == (3,)
    assert changed(out, kind="join", cell="cell", node=2) == draft


def test_a_copy_at_a_depth_is_changed_apart(draft):
    after = changed(draft, kind="copy_cell", cell="cell", name="other", depth=1)
    assert after.layout == ("cell", "other")
    after = changed(after, kind="clear", cell="other")
    assert carried(after) == carried(draft)


def test_a_renamed_cell_keeps_its_depths_and_the_function(draft):
    after = changed(draft, kind="rename_cell", cell="cell", name="other")
    assert (list(after.cells), after.layout) == (["other"], ("other", "other"))
    assert after.spec().hash == draft.spec().hash


def test_a_cell_goes_once_the_layout_does_not_name_it(draft):
    two = changed(draft, kind="copy_cell", cell="cell", name="other")
    assert changed(two, kind="remove_cell", cell="other") == draft
    with pytest.raises(EditorError, match="expected a cell that the layout does not name, got cell"):
        changed(two, kind="remove_cell", cell="cell")


def test_put_takes_one_depth_or_all(draft):
    two = changed(draft, kind="copy_cell", cell="cell", name="other")
    assert changed(two, kind="put", cell="other", depth=0).layout == ("other", "cell")
    assert changed(two, kind="put", cell="other").layout == ("other", "other")


@pytest.mark.parametrize(
    ("change", "depths", "after"),
    [
        ({"kind": "insert", "depth": 2}, 6, (0, 1, 2, 4)),
        ({"kind": "insert", "depth": 0}, 6, (0, 2, 3, 4)),
        ({"kind": "remove", "depth": 1}, 4, (0, 1, 2)),
        ({"kind": "depth", "depth": 2}, 2, (0, 1)),
        ({"kind": "depth", "depth": 9}, 9, (0, 1, 2, 3)),
    ],
)
def test_reductions_and_denoising_move_along_with_their_cells(change, depths, after):
    network = {"reductions": (0, 1, 2, 3), "denoise": {"after": (0, 1, 2, 3), "form": "mean"}}
    draft = Draft.of_spec(SPECS.own("robnet_micro").overridden({"network": network}))
    changed_draft = changed(draft, **change)
    if change["kind"] == "remove":  # that of the removed cell goes with it
        after = (0, 1, 2)
    assert (len(changed_draft.layout), changed_draft.network.depth) == (depths, depths)
    assert changed_draft.network.reductions == after
    assert changed_draft.network.denoise.after == after


def test_a_reduction_comes_and_goes(draft):
    gone = changed(draft, kind="reduce", depth=0)
    assert gone.network.reductions == (1,)
    assert changed(gone, kind="reduce", depth=0) == draft


def test_the_network_changes_in_what_is_given_alone(draft):
    after = changed(draft, kind="network", channels=12, affine=True)
    assert after.network.model_dump() == draft.network.model_dump() | {"channels": 12, "affine": True}


def test_denoising_stands_where_the_architecture_puts_it(tiny, draft):
    after = changed(draft, kind="denoise", form="median")
    assert after.spec() == tiny.denoised("median")
    assert changed(after, kind="denoise", form=None) == draft


def test_an_operation_comes_with_a_column_and_goes_with_it(draft):
    more = changed(draft, kind="vocabulary", operation="max_pool_3x3")
    assert more.operations == ("identity", "sep_conv_3x3", "max_pool_3x3")
    assert more.spec().hash == draft.spec().hash
    less = changed(draft, kind="vocabulary", operation="sep_conv_3x3")
    assert carried(less) == {each for each in carried(draft) if each[2] == "identity"}


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_keeps_the_function(name):
    draft = Draft.of_spec(SPECS.own("robnet_free"))
    draft = changed(draft, kind="copy_cell", cell="cell_0", name="unused")
    draft = changed(draft, kind="vocabulary", operation="max_pool_3x3")
    draft = changed(draft, kind="join", cell="cell_1", node=5)
    assert changed(draft, kind="pass", name=name).spec().hash == draft.spec().hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "switch", "cell": "c", "source": 0, "target": 2, "operation": "identity"}, "unknown cell"),
        ({"kind": "switch", "cell": "cell", "source": 2, "target": 2, "operation": "identity"}, "got 2->2"),
        ({"kind": "switch", "cell": "cell", "source": 0, "target": 2, "operation": "x"}, "unknown operation"),
        ({"kind": "remove_node", "cell": "cell", "node": 1}, "from 2 to 3, got 1"),
        ({"kind": "copy_cell", "cell": "cell", "name": "cell"}, "there is already"),
        ({"kind": "put", "cell": "cell", "depth": 2}, "from 0 to 1, got 2"),
        ({"kind": "insert", "depth": -1}, "from 0 to 1, got -1"),
        ({"kind": "network", "channels": 0}, "network.channels: expected at least 1, got 0"),
        ({"kind": "network", "channels": 2.5}, "network.channels: expected an integer, got 2.5"),
        ({"kind": "network", "stem": "x"}, "network.stem: expected"),
        ({"kind": "vocabulary", "operation": "x"}, "unknown operation"),
        ({"kind": "pass", "name": "x"}, "unknown pass"),
    ],
)
def test_an_impossible_change_says_what_was_expected(draft, change, message):
    with pytest.raises(RobnetZooError, match=message):
        changed(draft, **change)


def random_change(draw: random.Random, draft: Draft) -> dict[str, Any]:
    cell, node, depth = draw.choice([*draft.cells]), draw.randint(1, 6), draw.randint(-1, len(draft.layout))
    operation = draw.choice([*OPERATIONS])
    return draw.choice(
        [
            {"kind": "switch", "cell": cell, "source": draw.randint(0, 4), "target": node, "operation": operation},
            {"kind": "add_node", "cell": cell},
            {"kind": "remove_node", "cell": cell, "node": node},
            {"kind": "join", "cell": cell, "node": node},
            {"kind": "copy_cell", "cell": cell, "name": f"cell_{draw.randint(0, 3)}", "depth": depth},
            {"kind": "remove_cell", "cell": cell},
            {"kind": "put", "cell": cell, "depth": depth},
            {"kind": "depth", "depth": draw.randint(1, 6)},
            {"kind": "insert", "depth": depth},
            {"kind": "remove", "depth": depth},
            {"kind": "reduce", "depth": depth},
            {"kind": "network", "channels": draw.randint(1, 9)},
            {"kind": "denoise", "form": draw.choice([None, "mean"])},
            {"kind": "vocabulary", "operation": operation},
            {"kind": "pass", "name": draw.choice([*PASSES])},
        ]
    )


@pytest.mark.parametrize("seed", range(8))
def test_any_changes_lead_to_drafts_and_whatever_compiles_is_a_genotype(seed):
    draw, draft, compiled = random.Random(seed), Draft.of_spec(SPECS.own("robnet_micro")), 0
    for _ in range(120):
        try:
            draft = changed(draft, **random_change(draw, draft))
        except RobnetZooError:
            continue
        assert Draft.loads(draft.dumps()) == draft
        spec, problems = draft.compiled()
        assert (spec is None) == bool(problems)
        if spec is not None:
            compiled += 1
            assert Genotype.loads(draft.dumps()) == spec
            assert canonical(spec).hash == spec.hash
    assert compiled
