"""Figure 4: the linear classifier and the neighbours find what was planted and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from robnet_zoo.search.analysis import (
    embedding,
    linear_classifier,
)
from tests.search.studies import SMALL, by_convs, by_density, by_nothing, made, observe, study


def test_linear_classifier_finds_a_planted_line_and_weighs_the_planted_elements():
    result = study(made(by_density(1, noise=0.0)), n=200)
    figure = linear_classifier(observe(result), result.space)
    assert figure.each == 60
    assert figure.training.value > 0.95
    assert figure.validated.value > 0.9
    assert figure.positive.value > 0.9
    assert [(weight.edge, weight.operation) for weight in figure.weights[:2]] == [
        ("0->2", "identity"),
        ("0->2", "sep_conv_3x3"),
    ]


def test_linear_classifier_of_convolutions_weighs_no_identity():
    result = study(made(by_convs(0.02, 0.02, noise=0.0)), n=300)
    weights = linear_classifier(observe(result), result.space).weights
    convs = [weight.value for weight in weights if weight.operation == "sep_conv_3x3"]
    others = [weight.value for weight in weights if weight.operation == "identity"]
    assert min(convs) > max(np.abs(others))


def test_linear_classifier_fits_noise_but_is_not_validated_by_it():
    result = study(made(by_nothing), n=120)
    figure = linear_classifier(observe(result), result.space)
    assert figure.training.value > figure.validated.value
    assert figure.validated.interval.low < 0.5 < figure.validated.interval.high


def test_linear_classifier_of_free_cells_names_the_depth():
    result = study(made(by_density(1)), n=20, kind="cell_free")
    figure = linear_classifier(observe(result), result.space)
    assert [weight.cell for weight in figure.weights[::28]] == list(range(SMALL.depth))


def test_neighbours_in_alpha_are_alike_where_alpha_decides():
    # One edge in two elements decides: nearest neighbours mostly share it.
    def planted(spec, draw):
        row = spec.cells["cell"].alpha[9]
        return 0.3 + 0.1 * sum(sum(word) for word in spec.cells["cell"].alpha[:8]) / 16 + 0.001 * row[0]

    figure = embedding(observe(study(made(planted), n=150)))
    assert figure.chance == pytest.approx(44 / 89)
    assert figure.p < 0.01
    assert figure.neighbours > 0.6
    nothing = embedding(observe(study(made(by_nothing), n=100)))
    assert nothing.p > 0.05
    assert len(nothing.points) == len(nothing.labels) == 60


def test_neighbours_are_those_of_a_plain_search():
    result = study(made(by_density(1)), n=40)
    observations = observe(result)
    figure = embedding(observations)
    order = sorted(observations, key=lambda observation: -observation.robust)
    chosen = [(each.bits, 1) for each in order[:12]] + [(each.bits, -1) for each in order[-12:]]
    shares = []
    for index, (alpha, label) in enumerate(chosen):
        others = [row for other, row in enumerate(chosen) if other != index]
        apart = [sum(a != b for a, b in zip(alpha, bits, strict=True)) for bits, _ in others]
        nearest = [other for (_, other), far in zip(others, apart, strict=True) if far == min(apart)]
        shares.append(nearest.count(label) / len(nearest))
    assert figure.neighbours == pytest.approx(np.mean(shares))
