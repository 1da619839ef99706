"""Plans and samplers: the same candidates for the same config; a sampler fills its group and learns."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest

from robnet_zoo.errors import SearchError
from robnet_zoo.genotype.blueprint import multiply_adds
from robnet_zoo.search import study as study_module
from robnet_zoo.search.candidates import CandidateSet
from robnet_zoo.search.config import CandidateGroup, Sampler
from robnet_zoo.search.result import Candidate
from robnet_zoo.search.space import Kind, bits
from robnet_zoo.search.study import Claim, Study, work
from tests.search.crew import Noted, assert_all_counted_once, candidate_set, config, finish, judged, lines, start


def chosen(sampler: Sampler, count: int, *, kind: Kind = "cell_based", **changes: object) -> CandidateSet:
    group = CandidateGroup(name="chosen", count=count, sampler=sampler)
    return CandidateSet.of_group(config(group, kind=kind, **changes), kind, group)


def evaluated(where: str, wanted: CandidateSet) -> tuple[Candidate, ...]:
    with Study.open(where, wanted) as study:
        work(study, judged)
        return study.candidates()


def robust(candidates: tuple[Candidate, ...]) -> float:
    return mean(candidate.after.robust for candidate in candidates if candidate.after)


def test_the_same_config_plans_the_same_candidates() -> None:
    assert candidate_set(8) == candidate_set(8)
    assert candidate_set(8).candidates != candidate_set(8, seed=1).candidates


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
@pytest.mark.parametrize("kind", ["cell_based", "cell_free"])
def test_a_sampler_fills_its_group_with_different_architectures(sampler: Sampler, kind: Kind, tmp_path: Path) -> None:
    where, wanted = f"journal:{tmp_path}/study", chosen(sampler, 15, kind=kind)
    for index, candidate in enumerate(evaluated(where, wanted)):
        assert candidate.index == index
        assert wanted.space.genotype(candidate.codes, name="found").hash == candidate.hash
    assert_all_counted_once(where, wanted)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_workers_that_choose_at_the_same_moment_fill_the_group_and_no_more(
    where: str, sampler: Sampler, tmp_path: Path
) -> None:
    log, wanted = tmp_path / "log", chosen(sampler, 10)
    finish(*[start(where, wanted, Noted(log, 0.05)) for _ in range(3)])
    assert_all_counted_once(where, wanted)
    assert len(lines(log, "begin")) == 10


def test_tpe_finds_better_ones_than_chance(tmp_path: Path) -> None:
    # Robust accuracy is the density here, whose mean is one half among random architectures.
    learned = evaluated(f"journal:{tmp_path}/study", chosen("tpe", 40, nodes=4))
    drawn = evaluated(f"journal:{tmp_path}/study", candidate_set(40, nodes=4))
    assert robust(learned[20:]) > robust(drawn) + 0.1
    assert robust(learned[20:]) > robust(learned[:10]) + 0.1


def test_nsga2_minimises_multiply_adds_beside(tmp_path: Path) -> None:
    wanted = chosen("nsga2", 5)
    with Study.open(str(tmp_path / "study.db"), wanted) as study:
        work(study, judged)
        for trial, candidate in zip(study_module._done(study._trials()), study.candidates(), strict=True):
            assert candidate.after is not None
            spec = wanted.space.genotype(candidate.codes, name="found")
            assert trial.values == [candidate.after.robust, multiply_adds(spec)]


def test_a_candidate_that_is_evaluated_again_keeps_its_generation(tmp_path: Path) -> None:
    with Study.open(str(tmp_path / "study.db"), chosen("nsga2", 5)) as study:
        claim = study.claim()
        assert claim is not None
        claim.give_back()
        work(study, judged)
        trials = study._trials()
        known = [trial.system_attrs.get("NSGAIISampler:generation") for trial in trials]
        assert [trial.state.name for trial in trials[:2]] == ["FAIL", "COMPLETE"]
        assert trials[0].user_attrs["hash"] == trials[1].user_attrs["hash"]
        assert known[0] is not None
        assert known[0] == known[1]


def test_the_parameters_that_optuna_keeps_are_the_codes(tmp_path: Path) -> None:
    wanted = chosen("tpe", 5, kind="cell_free")
    with Study.open(str(tmp_path / "study.db"), wanted) as study:
        work(study, judged)
        for trial, candidate in zip(study_module._done(study._trials()), study.candidates(), strict=True):
            assert tuple(trial.params.values()) == bits(candidate.codes)
            assert tuple(trial.params) == wanted.columns


def test_a_chosen_architecture_whose_worker_died_is_evaluated_by_the_next(tmp_path: Path) -> None:
    with Study.open(str(tmp_path / "study.db"), chosen("tpe", 3)) as study:
        claim = study.claim()
        assert claim is not None
        claim.give_back()
        again = study.claim()
        assert again is not None
        assert again.codes == claim.codes
        again.finish(judged(again))
        work(study, judged)
        assert len(study.candidates()) == 3


def test_a_chosen_architecture_that_cannot_be_evaluated_is_named(tmp_path: Path) -> None:
    def fails(claim: Claim) -> Candidate:
        raise OSError("disk full")

    with (
        Study.open(str(tmp_path / "study.db"), chosen("tpe", 3)) as study,
        pytest.raises(SearchError, match=r"candidate [0-9a-f]+ failed 3 times, at last with OSError: disk full$"),
    ):
        work(study, fails)


def test_a_sampler_that_finds_nothing_new_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "DRAWS", 50)  # of the 12 architectures that a cell of one node can have
    with (
        Study.open(f"journal:{tmp_path}/study", chosen("tpe", 13, nodes=1)) as study,
        pytest.raises(SearchError, match=r"^trial/cell_based/chosen: expected another architecture, got none in 50"),
    ):
        work(study, judged)


def test_the_same_seed_makes_the_same_choices(tmp_path: Path) -> None:
    first = evaluated(str(tmp_path / "a.db"), chosen("tpe", 14))
    assert evaluated(f"journal:{tmp_path}/b", chosen("tpe", 14)) == first
    assert evaluated(f"journal:{tmp_path}/c", chosen("tpe", 14, seed=1)) != first


def test_a_group_without_candidates_or_sampler_is_refused() -> None:
    wanted = candidate_set(2)
    with pytest.raises(SearchError, match="group drawn has no sampler"):
        CandidateSet(wanted.config, "cell_based", wanted.group, None)
