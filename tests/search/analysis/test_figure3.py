"""Figure 3: finetuning and the distribution of robust accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from robnet_zoo.search.analysis import (
    finetuning,
    histogram,
)
from tests.search.studies import by_density, made, observe, study


def test_finetuning_is_given_as_paired_differences():
    result = study(made(by_density(1)), n=50)
    figure = finetuning(observe(result))
    gains = [candidate.after.robust - candidate.before.robust for candidate in result.candidates]
    assert figure.improvement.value == pytest.approx(np.mean(gains))
    assert figure.improvement.value == pytest.approx(figure.after.value - figure.before.value)
    assert figure.improved.value == sum(gain > 0 for gain in gains) / 50
    assert figure.order is not None


def test_histogram_counts_every_candidate_and_tells_the_noise_of_one():
    result = study(made(lambda spec, draw: 0.5 + 0.01 * draw.choice([-1, 1])), n=40)
    figure = histogram(observe(result), images=100)
    assert sum(figure.counts) == 40
    assert figure.edges[0] == pytest.approx(0.49)
    assert figure.noise == pytest.approx(0.05, abs=1e-4)  # sqrt(0.5 * 0.5 / 100)
    assert figure.deviation == pytest.approx(0.01, abs=1e-3)
