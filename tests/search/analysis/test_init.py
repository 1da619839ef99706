"""All of the analysis: too few candidates are refused, and its numbers are documents."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from robnet_zoo.errors import SearchError
from robnet_zoo.search.analysis import (
    budgets,
    convolutions,
    density,
    embedding,
    finetuning,
    front,
    fsp,
)
from tests.search.studies import by_convs, by_nothing, made, observe, study


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("call", [finetuning, density, convolutions, embedding, fsp])
def test_too_few_candidates_are_refused_in_a_line(call: Callable[[object], object], n: int):
    with pytest.raises(SearchError, match=r"^expected \d+ or more .*candidates.*, got \d$"):
        call(observe(study(made(by_nothing), n=n)))


def test_numbers_are_documents_that_can_be_written_and_read():
    observations = observe(study(made(by_convs(0.02, 0.01)), n=80))
    for document in (convolutions(observations), embedding(observations), budgets(observations), front(observations)):
        assert type(document).loads(document.dumps()) == document
