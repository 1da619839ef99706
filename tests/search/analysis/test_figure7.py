"""Figures 7 and 8: FSP distances are correlated with the gap, cell by cell."""

from __future__ import annotations

import pytest
from scipy import stats

from robnet_zoo.errors import SearchError
from robnet_zoo.search.analysis import (
    Observed,
    fsp,
)
from tests.search.studies import observe, study, with_distances


def test_fsp_is_correlated_cell_by_cell_and_deeper_cells_are_the_latter_half():
    result = study(with_distances([-1, 0, 0, 1, 1, 1]), n=80, kind="cell_free")
    observations = observe(result)
    figure = fsp(observations)
    gaps = [candidate.before.gap for candidate in result.candidates]
    for depth, cell in enumerate(figure.cells):
        distances = [candidate.fsp[depth] for candidate in result.candidates]
        assert cell.value == pytest.approx(stats.spearmanr(distances, gaps).statistic)
    assert (figure.n, figure.last) == (80, 3)
    assert figure.positive == (3, 0)
    assert figure.deep.value == pytest.approx(
        stats.spearmanr([sum(candidate.fsp[3:]) for candidate in result.candidates], gaps).statistic
    )
    assert figure.trend.interval.low > 0
    assert fsp(observations, last=1).last == 1


def test_fsp_needs_cells_of_one_depth():
    candidate = study(with_distances([1, 1]), n=6, kind="cell_free").candidates[0]
    result = study(with_distances([1]), n=6, kind="cell_free")
    mixed = result.model_copy(update={"candidates": (*result.candidates[1:], candidate)})
    with pytest.raises(SearchError, match="expected FSP distances of equally many cells, got 1, 2"):
        fsp(Observed.from_result(mixed).observations)
    with pytest.raises(SearchError, match="expected 4 or more candidates with FSP distances, got 2"):
        fsp(observe(result)[:2])
