"""The analysis of a search: planted effects are found, in either direction; numbers are those of closed forms."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from robnet_zoo.core.statistics import Interval, IntervalEstimate, Verdict
from robnet_zoo.errors import SearchError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.search.analysis import (
    Finding,
    Observation,
    Observed,
    budgets,
    convolutions,
    density,
    embedding,
    findings,
    finetuning,
    front,
    fsp,
    histogram,
    linear_classifier,
    verdict,
)
from robnet_zoo.search.analysis.estimates import Fit, kendall, mean, partial_spearman, spearman
from robnet_zoo.search.config import CandidateGroup
from robnet_zoo.search.result import Accuracy, StudyResult
from robnet_zoo.search.sampling import Sampling
from tests.search.studies import SMALL, made, study

Robust = Callable[[Genotype, random.Random], float]


def by_density(sign: float, noise: float = 0.02) -> Robust:
    return lambda spec, draw: 0.4 + sign * 0.3 * (spec.density - 0.5) + draw.gauss(0, noise)


def by_convs(direct: float, skip: float, noise: float = 0.005) -> Robust:
    def robust(spec: Genotype, draw: random.Random) -> float:
        depth = len(spec.layout)
        return 0.2 + direct * spec.direct_convs / depth + skip * spec.skip_convs / depth + draw.gauss(0, noise)

    return robust


def by_nothing(spec: Genotype, draw: random.Random) -> float:
    return 0.4 + draw.gauss(0, 0.02)


def with_distances(signs: list[float], *, sign: float = 1.0):
    """A gap, and for each cell a distance that goes with it by `signs`."""

    def measured(spec, draw):
        gap = 0.2 + 0.05 * draw.random()
        before = Accuracy(clean=0.5 + 0.01 * draw.random(), robust=0.5 - gap)
        return before, None, [0.1 + sign * one * (gap - 0.2) + 0.01 * draw.random() for one in signs]

    return measured


def observe(result: StudyResult) -> tuple[Observation, ...]:
    return Observed.from_result(result).observations


# Closed forms and published numbers


def test_spearmans_interval_is_the_published_one():
    # Example of ci.spear in statpsych, the R package of D. G. Bonett, after Bonett and Wright (2000).
    y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
    x = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]
    found = spearman(x, y)
    assert (found.value, *found.interval) == pytest.approx((0.8699639, 0.5840951, 0.9638297), abs=5e-8)
    assert (found.n, found.p) == (15, pytest.approx(stats.spearmanr(x, y).pvalue))


def test_spearmans_interval_covers_the_true_correlation_as_often_as_it_says():
    # Of a bivariate normal with correlation r, Spearman's is 6/pi asin(r/2) (Pearson, 1907).
    generator = np.random.default_rng(0)
    true = 6 / math.pi * math.asin(0.6 / 2)
    covered = 0
    for _ in range(500):
        x, y = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=60).T
        found = spearman(x, y)
        covered += found.interval.low <= true <= found.interval.high
    assert stats.binomtest(covered, 500, 0.95).pvalue > 0.01


def test_perfect_order_has_an_interval_with_more_than_one_point():
    up, down = spearman(range(10), range(10)), spearman(range(10), range(0, -10, -1))
    assert (up.value, up.interval.high) == pytest.approx((1, 1))
    assert 0.5 < up.interval.low < 0.99
    assert (down.interval.low, down.interval.high) == pytest.approx((-1, -up.interval.low))


def test_kendalls_interval_is_the_closed_form():
    x, y = [1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]
    tau = 9 / 15  # 12 of 15 pairs in order
    reach = 1.959964 * math.sqrt(0.437 / 2)
    assert kendall(x, y).value == pytest.approx(tau)
    assert kendall(x, y).interval.low == pytest.approx(math.tanh(math.atanh(tau) - reach), abs=1e-6)


def test_partial_correlation_is_that_of_the_residuals_of_ranks():
    generator = np.random.default_rng(1)
    z = generator.normal(size=80)
    x, y = z + generator.normal(size=80), z + generator.normal(size=80)
    ranks = [stats.rankdata(one) for one in (x, y, z)]
    left = [one - np.polyval(np.polyfit(ranks[2], one, 1), ranks[2]) for one in ranks[:2]]
    found = partial_spearman(x, y, z)
    assert found.value == pytest.approx(stats.pearsonr(*left).statistic)
    assert spearman(x, y).interval.low > 0
    assert found.interval.low < 0 < found.interval.high  # x and y go together by z alone


def test_means_have_the_textbook_interval():
    values = [0.1, 0.4, 0.2, 0.5, 0.3]
    low, high = stats.t.interval(0.95, 4, loc=0.3, scale=stats.sem(values))
    found = mean(values)
    assert (found.value, *found.interval, found.n) == pytest.approx((0.3, low, high, 5))


def test_covariance_of_least_squares_is_that_of_leaving_each_one_out():
    # HC3 is the sum of squared changes of the coefficients as each observation is left out in turn.
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(12, 2)), generator.normal(size=12)
    design = np.column_stack([np.ones(12), x])
    whole = np.linalg.lstsq(design, y)[0]
    changes = [np.linalg.lstsq(np.delete(design, i, 0), np.delete(y, i))[0] - whole for i in range(12)]
    fit = Fit(x, y)
    assert np.allclose(fit.coefficients, whole)
    assert np.allclose(fit.covariance, np.array(changes).T @ np.array(changes))
    reach = stats.t.ppf(0.975, 9) * math.sqrt(fit.covariance[1, 1])
    assert fit.combination([0, 1, 0]).interval.high == pytest.approx(whole[1] + reach)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: spearman([1, 2, 3], [1, 2, 3]), "expected 4 or more candidates, got 3"),
        (lambda: spearman([1, 1, 1, 1], [1, 2, 3, 4]), "got the same one of all 4 candidates"),
        (lambda: kendall([1, 2, 3, 4], [1, 2, 3, 4]), "expected 5 or more candidates, got 4"),
        (lambda: partial_spearman(range(9), range(9), range(9)), "got the same order"),
        (lambda: mean([1.0]), "expected 2 or more candidates, got 1"),
        (lambda: Fit(np.ones((9, 2)), np.arange(9.0)), "one that follows from the others"),
        (lambda: Fit(np.eye(9)[:, :1], np.arange(9.0)), "a count that one alone has"),
    ],
)
def test_what_cannot_be_told_is_refused(call, said):
    with pytest.raises(SearchError, match=said):
        call()


# Which candidates


def test_uniform_groups_are_those_without_bounds_and_samplers():
    groups = [
        CandidateGroup(name="uniform", count=1),
        CandidateGroup(name="small", count=1, sampling=Sampling(budget="small")),
        CandidateGroup(name="spread", count=1, sampling=Sampling(kind="density")),
        CandidateGroup(name="dense", count=1, sampling=Sampling(density_from=0.5)),
        CandidateGroup(name="direct", count=1, sampling=Sampling(direct_above=0.5)),
        CandidateGroup(name="sized", count=1, sampling=Sampling(parameters=(1, 10**9))),
        CandidateGroup(name="sought", count=1, sampler="tpe"),
    ]
    result = study(made(by_nothing), groups=groups)
    assert Observed.from_result(result).uniform_groups == ("uniform",)
    assert Observed.from_result(result).budget_groups == ("uniform", "small")


def test_architecture_that_stands_twice_counts_once():
    result = study(made(by_nothing), n=5)
    twice = Observed.from_result(result.model_copy(update={"candidates": result.candidates * 2}))
    assert len(twice.observations) == 10
    assert [one.candidate for one in twice.uniform] == list(result.candidates)


def test_observation_is_what_the_spec_says():
    result = study(made(by_nothing), n=3)
    for one, candidate in zip(observe(result), result.candidates, strict=True):
        spec = result.spec(candidate)
        assert one.density == spec.density == pytest.approx(sum(one.bits) / 28)  # no dead edges in this space
        assert (one.direct, one.skip) == spec.convs("cell")
        assert one.share == one.direct / one.convs


# Figures


def test_finetuning_is_told_as_paired_differences():
    result = study(made(by_density(1)), n=50)
    found = finetuning(observe(result))
    gains = [one.after.robust - one.before.robust for one in result.candidates]
    assert found.improvement.value == pytest.approx(np.mean(gains))
    assert found.improvement.value == pytest.approx(found.after.value - found.before.value)
    assert found.improved.value == sum(gain > 0 for gain in gains) / 50
    assert found.order is not None


def test_histogram_counts_every_candidate_and_tells_the_noise_of_one():
    result = study(made(lambda spec, draw: 0.5 + 0.01 * draw.choice([-1, 1])), n=40)
    found = histogram(observe(result), images=100)
    assert sum(found.counts) == 40
    assert found.edges[0] == pytest.approx(0.49)
    assert found.noise == pytest.approx(0.05, abs=1e-4)  # sqrt(0.5 * 0.5 / 100)
    assert found.deviation == pytest.approx(0.01, abs=1e-3)


def test_density_is_correlated_as_scipy_does_it():
    result = study(made(by_density(1)), n=60)
    found = density(observe(result))
    dense = [result.spec(one).density for one in result.candidates]
    robust = [one.after.robust for one in result.candidates]
    assert found.spearman.value == pytest.approx(stats.spearmanr(dense, robust).statistic)
    assert found.kendall.value == pytest.approx(stats.kendalltau(dense, robust).statistic)


def test_density_that_works_by_convolutions_alone_goes_at_equal_numbers_of_them():
    found = density(observe(study(made(by_convs(0.02, 0.02, noise=0.02)), n=300)))
    assert found.spearman.interval.low > 0
    assert found.given_convs.interval.low < 0 < found.given_convs.interval.high


def test_linear_classifier_finds_a_planted_line_and_weighs_the_planted_elements():
    result = study(made(by_density(1, noise=0.0)), n=200)
    found = linear_classifier(observe(result), result.space)
    assert found.each == 60
    assert found.training.value > 0.95
    assert found.validated.value > 0.9
    assert found.positive.value > 0.9
    assert [(one.edge, one.operation) for one in found.weights[:2]] == [
        ("0->2", "identity"),
        ("0->2", "sep_conv_3x3"),
    ]


def test_linear_classifier_of_convolutions_weighs_no_identity():
    result = study(made(by_convs(0.02, 0.02, noise=0.0)), n=300)
    weights = linear_classifier(observe(result), result.space).weights
    convs = [one.value for one in weights if one.operation == "sep_conv_3x3"]
    others = [one.value for one in weights if one.operation == "identity"]
    assert min(convs) > max(np.abs(others))


def test_linear_classifier_fits_noise_but_is_not_validated_by_it():
    result = study(made(by_nothing), n=120)
    found = linear_classifier(observe(result), result.space)
    assert found.training.value > found.validated.value
    assert found.validated.interval.low < 0.5 < found.validated.interval.high


def test_linear_classifier_of_free_cells_names_the_depth():
    result = study(made(by_density(1)), n=20, kind="cell_free")
    found = linear_classifier(observe(result), result.space)
    assert [one.cell for one in found.weights[::28]] == list(range(SMALL.depth))


def test_neighbours_in_alpha_are_alike_where_alpha_decides():
    # One edge in two elements decides: nearest neighbours mostly share it.
    def planted(spec, draw):
        row = spec.cells["cell"].alpha[9]
        return 0.3 + 0.1 * sum(sum(one) for one in spec.cells["cell"].alpha[:8]) / 16 + 0.001 * row[0]

    found = embedding(observe(study(made(planted), n=150)))
    assert found.chance == pytest.approx(44 / 89)
    assert found.p < 0.01
    assert found.neighbours > 0.6
    nothing = embedding(observe(study(made(by_nothing), n=100)))
    assert nothing.p > 0.05
    assert len(nothing.points) == len(nothing.labels) == 60


def test_neighbours_are_those_of_a_plain_search():
    result = study(made(by_density(1)), n=40)
    observations = observe(result)
    found = embedding(observations)
    order = sorted(observations, key=lambda one: -one.robust)
    chosen = [(one.bits, 1) for one in order[:12]] + [(one.bits, -1) for one in order[-12:]]
    shares = []
    for place, (alpha, label) in enumerate(chosen):
        others = [one for other, one in enumerate(chosen) if other != place]
        apart = [sum(a != b for a, b in zip(alpha, bits, strict=True)) for bits, _ in others]
        nearest = [other for (_, other), far in zip(others, apart, strict=True) if far == min(apart)]
        shares.append(nearest.count(label) / len(nearest))
    assert found.neighbours == pytest.approx(np.mean(shares))


def test_planted_worth_of_convolutions_lies_in_the_intervals():
    found = convolutions(observe(study(made(by_convs(0.02, 0.01)), n=200)))
    assert found.direct.interval.low < 0.02 < found.direct.interval.high
    assert found.skip.interval.low < 0.01 < found.skip.interval.high
    assert found.difference.interval.low < 0.01 < found.difference.interval.high
    assert found.difference.interval.low > 0
    assert sum(one.n for one in found.at["direct"]) == 200
    assert [one.count for one in found.at["direct"]] == [0, 1, 2, 3, 4]
    assert found.correlation.interval.low > 0


def test_budgets_are_the_specs_own_and_a_group_of_one_budget_fills_it():
    groups = [CandidateGroup(name="large", count=30, sampling=Sampling(budget="large"))]
    found = budgets(observe(study(made(by_convs(0.02, 0.01)), groups=groups)))
    assert [(one.budget, one.n) for one in found.budgets] == [("small", 0), ("medium", 0), ("large", 30)]
    assert found.of("small").correlation is None
    assert found.of("large").robust.n == 30


def test_fsp_is_correlated_cell_by_cell_and_deeper_cells_are_the_latter_half():
    result = study(with_distances([-1, 0, 0, 1, 1, 1]), n=80, kind="cell_free")
    found = fsp(observe(result))
    gaps = [one.before.gap for one in result.candidates]
    for depth, cell in enumerate(found.cells):
        distances = [one.fsp[depth] for one in result.candidates]
        assert cell.value == pytest.approx(stats.spearmanr(distances, gaps).statistic)
    assert (found.n, found.last) == (80, 3)
    assert found.positive == (3, 0)
    assert found.deep.value == pytest.approx(
        stats.spearmanr([sum(one.fsp[3:]) for one in result.candidates], gaps).statistic
    )
    assert found.trend.interval.low > 0
    assert fsp(observe(result), last=1).last == 1


def test_fsp_needs_cells_of_one_depth():
    one = study(with_distances([1, 1]), n=6, kind="cell_free").candidates[0]
    result = study(with_distances([1]), n=6, kind="cell_free")
    mixed = result.model_copy(update={"candidates": (*result.candidates[1:], one)})
    with pytest.raises(SearchError, match="expected FSP distances of equally many cells, got 1, 2"):
        fsp(Observed.from_result(mixed).observations)
    with pytest.raises(SearchError, match="expected 4 or more candidates with FSP distances, got 2"):
        fsp(observe(result)[:2])


def test_front_is_what_nothing_else_beats():
    observations = observe(study(made(by_density(1, noise=0.1)), n=60))
    found = {(one.multiply_adds, one.robust) for one in front(observations).points}
    for one in observations:
        beaten = any(
            other.multiply_adds <= one.multiply_adds
            and other.robust >= one.robust
            and (other.multiply_adds, other.robust) != (one.multiply_adds, one.robust)
            for other in observations
        )
        assert ((one.multiply_adds, one.robust) in found) != beaten


# Verdicts


@pytest.mark.parametrize(
    ("low", "high", "n", "said"),
    [
        (0.1, 0.3, 25, "holds"),
        (-0.3, -0.1, 25, "does not hold"),
        (-0.1, 0.3, 1000, "undecided"),
        (0.0, 0.3, 1000, "undecided"),
        (0.1, 0.3, 24, "undecided"),
        (-0.3, -0.1, 24, "undecided"),
    ],
)
def test_verdict_follows_from_the_interval_of_enough_candidates(low: float, high: float, n: int, said: Verdict):
    assert verdict(IntervalEstimate(value=(low + high) / 2, interval=Interval(low, high), n=n)) == said


def test_nothing_is_decided_without_an_estimate():
    assert verdict(None) == "undecided"


def first(finding: Finding) -> IntervalEstimate:
    found = finding.evidence[0].estimate
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("robust", "said"), [(by_density(1), "holds"), (by_density(-1), "does not hold"), (by_nothing, "undecided")]
)
def test_first_finding_is_judged_as_it_was_planted(robust: Robust, said: Verdict):
    found = findings([Observed.from_result(study(made(robust), n=120))])[0]
    assert found.verdict == said
    assert first(found).n == 120


@pytest.mark.parametrize(
    ("direct", "skip", "said"), [(0.03, 0.0, "holds"), (0.0, 0.03, "does not hold"), (0.0, 0.0, "undecided")]
)
def test_second_finding_is_judged_as_it_was_planted(direct: float, skip: float, said: Verdict):
    groups = [
        CandidateGroup(name="uniform", count=80),
        *(CandidateGroup(name=one, count=60, sampling=Sampling(budget=one)) for one in ("small", "medium")),
    ]
    found = findings([Observed.from_result(study(made(by_convs(direct, skip, noise=0.01)), groups=groups))])[1]
    small, medium, large, difference = found.evidence
    assert found.verdict == said
    assert (small.verdict, medium.verdict, difference.verdict) == (said, said, said)
    assert [one.deciding for one in found.evidence] == [True, True, False, False]
    assert small.estimate is not None
    assert small.estimate.n >= 60
    assert not large.deciding


@pytest.mark.parametrize(("sign", "said"), [(1, "holds"), (-1, "does not hold"), (0, "undecided")])
def test_third_finding_is_judged_as_it_was_planted(sign: float, said: Verdict):
    found = findings(
        [Observed.from_result(study(with_distances([0, 0, 0, 1, 1, 1], sign=sign), n=60, kind="cell_free"))]
    )[2]
    assert found.verdict == said
    assert first(found).n == 60


def test_findings_without_results_say_what_is_missing():
    for finding in findings([]):
        assert finding.verdict == "undecided"
        assert all("result" in one.missing for one in finding.evidence)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("call", [finetuning, density, convolutions, embedding, fsp])
def test_too_few_candidates_are_refused_in_a_line(call: Callable[[object], object], n: int):
    with pytest.raises(SearchError, match=r"^expected \d+ or more .*candidates.*, got \d$"):
        call(observe(study(made(by_nothing), n=n)))


def test_numbers_are_documents_that_can_be_written_and_read():
    observations = observe(study(made(by_convs(0.02, 0.01)), n=80))
    for document in (convolutions(observations), embedding(observations), budgets(observations), front(observations)):
        assert type(document).loads(document.dumps()) == document
