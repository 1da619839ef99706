"""Words that depend on a number."""

import pytest

from robnet_zoo.core.wording import counted, listed


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 threads"), (1, "1 thread"), (2, "2 threads"), (45_000, "45,000 threads")]
)
def test_a_noun_is_in_the_plural_except_after_1(count, text):
    assert counted(count, "thread") == text


@pytest.mark.parametrize(("names", "text"), [(["Loop"], "operator Loop"), (["If", "Loop"], "operators If, Loop")])
def test_a_noun_before_names_is_in_the_plural_except_before_a_single_one(names, text):
    assert listed("operator", names) == text
