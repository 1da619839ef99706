"""Values in a Python text are read, and nothing of it is run."""

from __future__ import annotations

import pytest

from robnet_zoo.converters.python_text import assigned, changed, literal, statements
from robnet_zoo.errors import DocumentError


def test_every_name_gets_the_value():
    parsed = statements("a = b = ['01', (1, 2)]\nc: list = range(2, 6)\nd, e = 1, 2\ndef f(): pass\n[3]", "text")
    read = [(names, literal(value)) for names, value in map(assigned, parsed) if names and value is not None]
    assert read == [(["a", "b"], ["01", [1, 2]]), (["c"], [2, 3, 4, 5]), ([""], [3])]


@pytest.mark.parametrize("text", ["a += [1]", "a[0] = 1", "a[0][1] += 1", "a.append(1)", "del a[0]", "if b: a[0] = d"])
def test_what_changes_a_value_is_noticed(text):
    assert changed(*statements(text, "text")) == {"a"}


@pytest.mark.parametrize("text", ["print(a[0])", "b = a", "assert len(a) == 1"])
def test_what_reads_a_value_does_not_change_it(text):
    assert not changed(*statements(text, "text"))


@pytest.mark.parametrize("text", ["f()", "[open('x')]", "{}", "'a' * 9", "range(1, 9, 0)", "[*range(9)]", "1.5", "x"])
def test_what_would_have_to_be_run_is_refused(text):
    (statement,) = statements(text, "text")
    with pytest.raises(DocumentError, match=r"line 1: expected texts, integers, .*, which is not executed"):
        literal(assigned(statement)[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "not Python"),
        ("\0", "not Python|cannot read"),
        ("(" * 300, "not Python|cannot read"),
        (" " * 2**19, "KiB"),
    ],
)
def test_what_is_not_python_is_refused(text, message):
    with pytest.raises(DocumentError, match=message):
        statements(text, "text")
