"""Verdicts follow from intervals, and planted effects are judged as planted in either direction."""

from __future__ import annotations

import pytest

from robnet_zoo.core.statistics import Interval, IntervalEstimate, Verdict
from robnet_zoo.search.analysis import (
    Finding,
    Observed,
    findings,
    verdict,
)
from robnet_zoo.search.config import CandidateGroup
from robnet_zoo.search.sampling import Sampling
from tests.search.studies import Robust, by_convs, by_density, by_nothing, made, study, with_distances


def first(finding: Finding) -> IntervalEstimate:
    estimate = finding.evidence[0].estimate
    assert estimate is not None
    return estimate


@pytest.mark.parametrize(
    ("low", "high", "n", "expected"),
    [
        (0.1, 0.3, 25, "holds"),
        (-0.3, -0.1, 25, "does not hold"),
        (-0.1, 0.3, 1000, "undecided"),
        (0.0, 0.3, 1000, "undecided"),
        (0.1, 0.3, 24, "undecided"),
        (-0.3, -0.1, 24, "undecided"),
    ],
)
def test_verdict_follows_from_the_interval_of_enough_candidates(low: float, high: float, n: int, expected: Verdict):
    assert verdict(IntervalEstimate(value=(low + high) / 2, interval=Interval(low, high), n=n)) == expected


def test_nothing_is_decided_without_an_estimate():
    assert verdict(None) == "undecided"


@pytest.mark.parametrize(
    ("robust", "verdict"), [(by_density(1), "holds"), (by_density(-1), "does not hold"), (by_nothing, "undecided")]
)
def test_first_finding_is_judged_as_it_was_planted(robust: Robust, verdict: Verdict):
    finding = findings([Observed.from_result(study(made(robust), n=120))])[0]
    assert finding.verdict == verdict
    assert first(finding).n == 120


@pytest.mark.parametrize(
    ("direct", "skip", "verdict"), [(0.03, 0.0, "holds"), (0.0, 0.03, "does not hold"), (0.0, 0.0, "undecided")]
)
def test_second_finding_is_judged_as_it_was_planted(direct: float, skip: float, verdict: Verdict):
    groups = [
        CandidateGroup(name="uniform", count=80),
        *(CandidateGroup(name=budget, count=60, sampling=Sampling(budget=budget)) for budget in ("small", "medium")),
    ]
    finding = findings([Observed.from_result(study(made(by_convs(direct, skip, noise=0.01)), groups=groups))])[1]
    small, medium, large, difference = finding.evidence
    assert finding.verdict == verdict
    assert (small.verdict, medium.verdict, difference.verdict) == (verdict, verdict, verdict)
    assert [number.deciding for number in finding.evidence] == [True, True, False, False]
    assert small.estimate is not None
    assert small.estimate.n >= 60
    assert not large.deciding


@pytest.mark.parametrize(("sign", "verdict"), [(1, "holds"), (-1, "does not hold"), (0, "undecided")])
def test_third_finding_is_judged_as_it_was_planted(sign: float, verdict: Verdict):
    finding = findings(
        [Observed.from_result(study(with_distances([0, 0, 0, 1, 1, 1], sign=sign), n=60, kind="cell_free"))]
    )[2]
    assert finding.verdict == verdict
    assert first(finding).n == 60


def test_findings_without_results_say_what_is_missing():
    for finding in findings([]):
        assert finding.verdict == "undecided"
        assert all("result" in number.missing for number in finding.evidence)
