"""Drafts: what can be drawn, and what keeps it from being a genotype."""

from __future__ import annotations

import pytest

from robnet_zoo.editor.draft import Draft, blank
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.specs import SPECS


@pytest.mark.parametrize("name", SPECS.names())
def test_a_bundled_spec_comes_back_as_it_was(name):
    spec = SPECS.own(name)
    draft = Draft.of_spec(spec)
    assert draft.spec() == spec
    assert draft.dumps() == spec.dumps()
    assert draft.compiled() == (spec, [])


def test_the_empty_draft_says_what_is_missing():
    compiled, problems = blank().compiled()
    assert compiled is None
    assert [path for path, _ in problems] == [("cells", "cell", "alpha")]


def test_problems_of_a_draft_are_those_of_validation(tiny):
    broken = Draft.of_spec(tiny).overridden({"network": {"input_size": (3, 30, 31), "reductions": (1, 0)}})
    with pytest.raises(DocumentError) as error:
        broken.spec()
    _, problems = broken.compiled()
    assert [text for _, text in problems] == [problem.partition(": ")[2] for problem in error.value.problems]
    assert {path[:2] for path, _ in problems} == {("network", "input_size"), ("network", "reductions")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operations": ("identity", "conv_11x11")}, "unknown operation"),
        ({"operations": ("identity",)}, "expected 1 values, one an operation, got 2"),
        ({"layout": ("cell", "cel")}, "did you mean 'cell'"),
        ({"layout": ()}, "layout: expected one cell or more, got none"),
        ({"cells": {"cell": {"alpha": ((1, 1), (0, 1), (1, 0)), "concat": (2,)}}}, "expected 2, 5, 9, 14"),
        ({"cells": {"cell": {"alpha": ((1, 1), (0, 1)), "concat": (3,)}}}, "expected a node from 2 to 2, got 3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tiny, changes, message):
    with pytest.raises(DocumentError, match=message):
        Draft.parse(tiny.model_dump() | changes)
