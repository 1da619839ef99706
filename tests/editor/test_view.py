"""What is shown of a draft: figures beside those of the compiled network, problems with their places, passes."""

from __future__ import annotations

import json
import shlex

import pytest

from robnet_zoo.editor.changes import PASSES
from robnet_zoo.editor.draft import Draft, blank
from robnet_zoo.editor.published import load_published
from robnet_zoo.editor.view import comparison, neighbours, training_line, view
from robnet_zoo.genotype.specs import SPECS
from robnet_zoo.nn.compiler import compile
from tests.command import run


def figures(shown):
    return {figure["key"]: figure["value"] for figure in shown["figures"]}


@pytest.mark.parametrize("name", ["robnet_micro", "robnet_small", "racl"])
def test_figures_are_those_of_the_compiled_network_and_of_show(name, capsys, tmp_path):
    spec = load_published(name)
    shown = view(Draft.of_spec(spec))
    assert figures(shown)["parameters"] == sum(p.numel() for p in compile(spec).parameters())
    spec.save(tmp_path / "spec.json")
    summary = json.loads(run(capsys, "show", tmp_path / "spec.json", "--json"))
    for key, value in figures(shown).items():
        assert value == summary[key], key
    assert shown["hash"] == summary["hash"]
    assert shown["text"] == spec.dumps()


def test_a_draft_with_problems_has_places_and_no_figures():
    shown = view(blank())
    assert [problem["where"] for problem in shown["problems"]] == ["cells.cell.alpha"]
    assert shown["problems"][0] == {
        "place": ["cells", "cell", "alpha"],
        "where": "cells.cell.alpha",
        "text": "expected one or more operations, got zeros alone",
    }
    assert (shown["hash"], shown["figures"], shown["passes"], shown["line"]) == (None, [], [], None)


def test_the_graph_of_a_cell_is_the_alpha(tiny):
    shown = view(Draft.of_spec(tiny))["cells"]["cell"]
    assert [(edge["source"], edge["target"], edge["on"]) for edge in shown["edges"]] == [
        (0, 2, ["identity", "sep_conv_3x3"]),
        (1, 2, ["sep_conv_3x3"]),
        (0, 3, ["identity"]),
        (1, 3, []),
        (2, 3, ["sep_conv_3x3"]),
    ]
    assert [node["node"] for node in shown["nodes"] if node["output"]] == [2, 3]
    assert shown["depths"] == [0, 1]


def test_a_node_that_no_input_reaches_is_marked_as_zero_and_what_adds_nothing_as_dead(tiny):
    alpha = ((1, 1), (0, 1), (0, 0), (0, 0), (0, 0), (0, 0), (1, 0), (0, 0), (1, 0))
    draft = Draft.of_spec(tiny.overridden({"cells": {"cell": {"alpha": alpha, "concat": (2, 4)}}}))
    shown = view(draft)["cells"]["cell"]
    assert [node["node"] for node in shown["nodes"] if node["zero"]] == [3]
    assert [(edge["source"], edge["target"]) for edge in shown["edges"] if edge["on"] and not edge["live"]] == [(3, 4)]


def test_the_sizes_of_the_layout_are_those_of_the_compiled_network(tiny):
    import torch

    sizes = []
    network = compile(tiny)
    for cell in network.cells:
        cell.register_forward_hook(lambda module, images, output: sizes.append("x".join(map(str, output.shape[1:]))))
    network(torch.rand(2, 3, 32, 32))
    assert [stage["output"].replace("×", "x") for stage in view(Draft.of_spec(tiny))["layout"]] == sizes


def test_passes_that_would_remove_something_say_what(tiny):
    dead = tiny.overridden(
        {
            "operations": ("identity", "sep_conv_3x3", "max_pool_3x3"),
            "cells": {
                "cell": {"alpha": ((1, 1, 0), (0, 1, 0), (1, 0, 0), (0, 0, 0), (0, 1, 0)), "concat": (2,)},
                "twin": {"alpha": ((1, 1, 0), (0, 1, 0)), "concat": (2,)},
                "copy": {"alpha": ((1, 1, 0), (0, 1, 0)), "concat": (2,)},
                "spare": {"alpha": ((1, 1, 0), (0, 1, 0)), "concat": (2,)},
            },
            "layout": ("cell", "twin", "copy"),
            "network": {"depth": 3},
        }
    )
    shown = {each["name"]: each["removes"] for each in view(Draft.of_spec(dead))["passes"]}
    assert shown == {
        "drop_unused_cells": "1 cell (spare)",
        "drop_dead_edges": "2 operations on edges",
        "drop_unused_operations": "1 unused operation (max_pool_3x3)",
        "merge_equal_cells": "2 cells",
        "drop_dead_nodes": "1 node, 2 operations on edges",
    }
    assert list(PASSES) == list(shown)


@pytest.mark.parametrize("name", SPECS.names())
def test_no_pass_would_remove_anything_of_a_bundled_spec(name):
    assert view(Draft.of_spec(SPECS.own(name)))["passes"] == []


def test_the_line_trains_the_file_and_survives_a_shell(tiny, tmp_path):
    line = "robnet-zoo train tiny.json --data cifar10-train:data --output runs/tiny --recipe fast"
    assert training_line(tiny, None) == line
    file = tmp_path / "it's mine.json"
    assert shlex.split(training_line(tiny, file))[:3] == ["robnet-zoo", "train", str(file)]
    assert "--data DATA " in training_line(tiny.fitted(num_classes=7), None)


def test_neighbours_of_a_large_cell_are_explained():
    draft = Draft.of_spec(load_published("robnet_micro"))
    assert neighbours(draft, "cell")["neighbours"][0]["architectures"] == ("robnet_micro",)
    assert neighbours(draft, "cell")["why_not"] == ""


def test_a_comparison_has_the_figures_of_both_and_says_what_differs(tiny):
    draft = Draft.of_spec(tiny)
    same = comparison(draft, draft.model_copy(update={"name": "twin"}))
    assert same["same_function"]
    assert {row["change"] for row in same["rows"]} == {"the same", ""}
    other = comparison(draft, Draft.of_spec(tiny.scaled(width=2)))
    rows = {row["name"]: row for row in other["rows"]}
    assert not other["same_function"]
    assert other["verdict"] == "They compile to different functions."
    assert rows["channels"]["texts"] == ["2", "4"]
    assert rows["density"]["change"] == "the same"
    assert rows["parameters"]["change"].startswith("+")


def test_a_draft_that_does_not_compile_is_compared_without_figures(tiny):
    compared = comparison(blank(), Draft.of_spec(tiny))
    assert compared["hashes"][0] is None
    assert compared["rows"][0]["texts"][0] == "–"
    for either in (compared, comparison(blank(), blank())):
        assert either["same_function"] is None
        assert either["verdict"] == "Whether they are the same function cannot be told before both compile."
