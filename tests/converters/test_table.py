"""Every converter in the table keeps the contract that the command relies on."""

import inspect
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from docstring_parser import parse

from robnet_zoo.converters.table import CONVERTERS
from robnet_zoo.core.documents import Document
from robnet_zoo.genotype.specs import SpecLike

PLAIN = {bool, int, str, Path, type(None)}
every = pytest.mark.parametrize("converter", CONVERTERS.values(), ids=CONVERTERS)


@every
def test_a_converter_takes_its_source_first_and_options_by_name(converter) -> None:
    source, *options = inspect.signature(converter).parameters.values()
    assert source.default is inspect.Parameter.empty
    assert {option.kind for option in options} <= {inspect.Parameter.KEYWORD_ONLY}


@every
def test_every_parameter_of_a_converter_has_a_type_that_a_command_line_can_give(converter) -> None:
    types = get_type_hints(converter)
    for name in inspect.signature(converter).parameters:
        kind = types[name]
        plain = get_origin(kind) is Literal or {kind} <= PLAIN or set(get_args(kind)) <= PLAIN
        assert kind == SpecLike or plain, name


@every
def test_the_docstring_describes_every_parameter(converter) -> None:
    text = parse(converter.__doc__ or "")
    assert text.short_description
    assert [parameter.arg_name for parameter in text.params] == list(inspect.signature(converter).parameters)


@every
def test_a_converter_returns_a_document_or_a_text_and_a_report_of_the_folder_that_it_writes(converter) -> None:
    returned = get_type_hints(converter)["return"]
    kinds = get_args(returned) or (returned,)
    writes_itself = "output" in inspect.signature(converter).parameters
    assert all(issubclass(kind, Document) or (kind is str and not writes_itself) for kind in kinds)
