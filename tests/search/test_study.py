"""Studies: with any number of workers, and any accidents, no candidate is lost and none is counted twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from robnet_zoo.errors import SearchError
from robnet_zoo.search.candidates import CandidateSet
from robnet_zoo.search.heartbeat import Pace
from robnet_zoo.search.result import Accuracy, Candidate
from robnet_zoo.search.study import TRIES, Claim, Study, work
from tests.processes import PROCESSES
from tests.search.conftest import Server
from tests.search.crew import (
    FAST,
    Noted,
    assert_all_counted_once,
    candidate_set,
    config,
    finish,
    judged,
    lines,
    start,
    until,
)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "study.db")


def test_a_worker_killed_in_the_middle_loses_no_candidate_and_none_is_counted_twice(where: str, tmp_path: Path) -> None:
    log, wanted = tmp_path / "log", candidate_set(24)
    victim = start(where, wanted, Noted(log, 0, good=2))
    until(lambda: len(lines(log, "begin")) == 3)
    others = [start(where, wanted, Noted(log, 0.05)) for _ in range(2)]
    until(lambda: len(lines(log, "end")) >= 5)
    victim.kill()
    finish(*others)
    assert_all_counted_once(where, wanted)
    assert lines(log, "begin", victim.pid) == [0, 1, 2]
    assert sorted(lines(log, "begin")) == sorted([*range(24), 2])  # no other was begun twice


def test_the_progress_names_the_most_robust_candidate_so_far(file: str, capfd: pytest.CaptureFixture[str]) -> None:
    wanted = candidate_set(4)
    with Study.open(file, wanted, pace=FAST) as study:
        work(study, judged, shown=True)
        leader = max(study.candidates(), key=lambda candidate: candidate.after.robust if candidate.after else 0)
    assert leader.after is not None
    last = [line for line in capfd.readouterr().err.splitlines() if line][-1]
    assert f"best so far: {leader.index} with {leader.after.robust:.1%} robust" in last


def test_workers_that_claim_without_a_pause_never_claim_the_same(where: str, tmp_path: Path) -> None:
    log, wanted, gate = tmp_path / "log", candidate_set(60, nodes=3), PROCESSES.Barrier(3)
    finish(*[start(where, wanted, Noted(log, 0), gate=gate) for _ in range(3)])
    assert sorted(lines(log, "begin")) == list(range(60))
    assert_all_counted_once(where, wanted)


def test_workers_that_begin_the_study_at_the_same_moment_share_it(where: str, tmp_path: Path) -> None:
    log, wanted, gate = tmp_path / "log", candidate_set(6), PROCESSES.Barrier(6)
    finish(*[start(where, wanted, Noted(log, 0.05), gate=gate) for _ in range(6)])
    assert sorted(lines(log, "begin")) == list(range(6))
    assert_all_counted_once(where, wanted)


@pytest.mark.parametrize("where", ["sqlite", "postgresql"], indirect=True)  # a journal's lock stays for half a minute
def test_processes_killed_at_any_moment_from_the_first_on_leave_a_whole_study(where: str, tmp_path: Path) -> None:
    log, wanted, moments = tmp_path / "log", candidate_set(12), random.Random(0)
    for _ in range(8):
        gate = PROCESSES.Barrier(2)
        worker = start(where, wanted, Noted(log, 0.02), gate=gate)
        gate.wait()
        time.sleep(moments.uniform(0, 0.4))
        worker.kill()
        worker.join()
    with Study.open(where, wanted) as study:
        work(study, judged)
    assert_all_counted_once(where, wanted)


def test_a_worker_that_was_only_paused_is_not_counted_twice(where: str, tmp_path: Path) -> None:
    log, wanted = tmp_path / "log", candidate_set(3)
    paused = start(where, wanted, Noted(log, 2), pace=Pace(interval=30, grace=60))
    until(lambda: lines(log, "begin") == [0])
    assert paused.pid is not None
    os.kill(paused.pid, signal.SIGSTOP)
    other = start(where, wanted, Noted(log, 0), pace=Pace(interval=0.2, grace=0.5))
    finish(other)
    os.kill(paused.pid, signal.SIGCONT)
    finish(paused)
    assert lines(log, "end").count(0) == 2
    assert_all_counted_once(where, wanted)
    with Study.open(where, wanted) as study:
        assert study.candidates()[0].seconds == other.pid


def test_a_worker_on_another_machine_counts_as_dead_after_the_grace(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        there.setattr("robnet_zoo.search.heartbeat._host", lambda: "elsewhere")
        far = Study.open(file, candidate_set(1), pace=Pace(interval=1000))
    with far, Study.open(file, candidate_set(1), pace=Pace(interval=0.1, grace=0.3)) as study:
        claim = far.claim()
        assert claim is not None
        assert study.claim() is None
        time.sleep(0.5)
        again = study.claim()
        assert again is not None
        assert again.index == 0
        assert not claim.finish(judged(claim))
        assert again.finish(judged(again))


def test_a_worker_whose_heart_beats_keeps_its_candidate(file: str) -> None:
    with (
        Study.open(file, candidate_set(1), pace=Pace(interval=0.05)) as slow,
        Study.open(file, candidate_set(1), pace=Pace(grace=0.5)) as study,
    ):
        claim = slow.claim()
        assert claim is not None
        for _ in range(10):
            assert study.claim() is None
            time.sleep(0.1)
        assert not claim.lost
        assert claim.finish(judged(claim))


def test_a_worker_learns_that_its_candidate_was_taken_away(file: str) -> None:
    with (
        Study.open(file, candidate_set(1), pace=Pace(interval=0.5)) as slow,
        Study.open(file, candidate_set(1), pace=Pace(grace=0.1)) as study,
    ):
        claim = slow.claim()
        assert claim is not None
        study.claim()
        time.sleep(0.2)
        assert study.claim() is not None
        until(lambda: claim.lost)


def test_an_evaluation_that_raises_is_tried_three_times_and_then_named(file: str) -> None:
    seen: list[int] = []

    def fails(claim: Claim) -> Candidate:
        seen.append(claim.index)
        if claim.index == 1:
            raise ValueError("no\nmemory")
        return judged(claim)

    with Study.open(file, candidate_set(4)) as study:
        wanted = r"^trial/cell_based/drawn: candidate 1 failed 3 times, at last with ValueError: no memory$"
        with pytest.raises(SearchError, match=wanted):
            work(study, fails)
        assert seen == [0] + [1] * TRIES
        with pytest.raises(SearchError, match=wanted):  # the others are still evaluated
            work(study, fails)
        assert seen == [0] + [1] * TRIES + [2, 3]
    with Study.open(file, candidate_set(4)) as study:  # to start again is to try again
        work(study, judged)
    assert_all_counted_once(file, candidate_set(4))


def test_an_interrupted_worker_gives_its_candidate_back_at_once(file: str) -> None:
    def interrupted(_: Claim) -> Candidate:
        raise KeyboardInterrupt

    with Study.open(file, candidate_set(1)) as study, Study.open(file, candidate_set(1)) as other:
        for _ in range(TRIES + 1):  # which is not a failure
            with pytest.raises(KeyboardInterrupt):
                work(study, interrupted)
        claim = other.claim()
        assert claim is not None
        claim.give_back()


def test_a_rejected_candidate_is_done_and_keeps_what_was_measured(file: str) -> None:
    measured = {"before": Accuracy(clean=0.5, robust=0.25), "fsp": (0.5,)}
    with Study.open(file, candidate_set(2)) as study:
        work(study, lambda claim: claim.candidate.model_copy(update=measured))
        assert [(each.before, each.fsp, each.after) for each in study.candidates()] == [
            (measured["before"], (0.5,), None)
        ] * 2


def test_a_later_phase_keeps_the_indices_of_the_candidates_it_takes(file: str) -> None:
    first = candidate_set(6)
    assert first.candidates is not None
    later = first.then([first.candidates[index] for index in (1, 4)], phase="finetuned")
    with Study.open(file, first) as scores, Study.open(file, later) as finetuned:
        work(scores, judged)
        work(finetuned, judged)
        assert [each.index for each in scores.candidates()] == list(range(6))
        assert [each.index for each in finetuned.candidates()] == [1, 4]


def test_the_result_of_another_candidate_is_refused(file: str) -> None:
    with Study.open(file, candidate_set(2)) as study:
        claim, other = study.claim(), study.claim()
        assert claim is not None
        assert other is not None
        with pytest.raises(SearchError, match="expected the result of candidate 0, got that of 1"):
            claim.finish(judged(other))


def changed(what: str) -> CandidateSet:
    wanted = candidate_set(4)
    if what == "candidates":
        assert wanted.candidates is not None
        return wanted.then(wanted.candidates[:3], phase="")
    group = wanted.group
    if what == "config":
        return CandidateSet.of_group(config(group, images=1000), "cell_based", group)
    return CandidateSet.of_group(wanted.config, "cell_based", group, inputs={"weights": "ab12"})


@pytest.mark.parametrize("what", ["candidates", "config", "weights"])
def test_a_study_of_other_candidates_is_refused(where: str, what: str) -> None:
    Study.open(where, candidate_set(4)).close()
    with pytest.raises(SearchError, match=f"^trial/cell_based/drawn: was begun with other {what}; keep this"):
        Study.open(where, changed(what))
    Study.open(where, candidate_set(4)).close()


def test_description_and_picks_may_change(file: str) -> None:
    wanted = candidate_set(4)
    Study.open(file, wanted).close()
    Study.open(
        file, CandidateSet.of_group(config(wanted.group, description="more"), "cell_based", wanted.group)
    ).close()


def test_a_server_that_restarts_costs_no_worker_its_work(server: Server, tmp_path: Path) -> None:
    where, log, wanted = server.database(), tmp_path / "log", candidate_set(10)
    worker = start(where, wanted, Noted(log, 0.1), pace=FAST)
    until(lambda: len(lines(log, "end")) >= 2)
    server.stop()
    time.sleep(0.5)
    server.start()
    finish(worker)
    assert_all_counted_once(where, wanted)
    assert set(lines(log, "begin")) == set(range(10))
    assert len(lines(log, "begin")) <= 11  # a claim whose answer was lost is made again
