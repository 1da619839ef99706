"""Processes for tests of searches: workers that evaluate by a formula and log it."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

from robnet_zoo.genotype.genotype import NetworkConfig
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.search.candidates import CandidateSet
from robnet_zoo.search.config import CandidateGroup, Evaluation, SearchConfig
from robnet_zoo.search.heartbeat import Pace
from robnet_zoo.search.result import Accuracy, Candidate
from robnet_zoo.search.study import Claim, Study, work
from robnet_zoo.training.recipe import load_recipe
from tests.processes import start as start_process

FAST = Pace(interval=0.2, grace=60)
NETWORK = load_spec("robnet_large").network.model_copy(update={"channels": 4, "depth": 3, "reductions": (1,)})


def config(
    group: CandidateGroup, *, kind: str = "cell_based", network: NetworkConfig = NETWORK, **changes: object
) -> SearchConfig:
    recipe = load_recipe("fast").model_copy(update={"validation": 0, "guard": None})
    return SearchConfig.parse(
        {
            "schema_version": 1,
            "name": "trial",
            "nodes": 2,
            "full": network,
            "evaluation": Evaluation(finetune=recipe),
            "branches": [{"kind": kind, "network": network, "supernet": recipe, "groups": [group]}],
            **changes,
        }
    )


def candidate_set(count: int = 24, **changes: object) -> CandidateSet:
    """Return candidates that were drawn beforehand."""
    group = CandidateGroup(name="drawn", count=count)
    return CandidateSet.of_group(config(group, **changes), "cell_based", group)


def accuracy(claim: Claim) -> Accuracy:
    """Return the objective: the denser an architecture, the better."""
    return Accuracy(clean=1, robust=claim.spec.density)


def judged(claim: Claim) -> Candidate:
    """Return an evaluated candidate, without delay."""
    return claim.candidate.model_copy(update={"after": accuracy(claim)})


class Noted:
    """An evaluation that takes a while and leaves a line when it begins and one when it ends.

    Args:
        log: the file of the lines.
        seconds: how long an evaluation takes.
        good: how many evaluations end; the next one never does.
    """

    def __init__(self, log: Path, seconds: float, good: float = math.inf) -> None:
        self.log = log
        self.seconds = seconds
        self.good = good

    def note(self, word: str, index: int) -> None:
        with open(self.log, "ab", buffering=0) as file:
            file.write(f"{word} {index} {os.getpid()}\n".encode())

    def __call__(self, claim: Claim) -> Candidate:
        self.note("begin", claim.index)
        time.sleep(self.seconds if self.good > 0 else 3600)
        self.good -= 1
        self.note("end", claim.index)
        return judged(claim).model_copy(update={"seconds": float(os.getpid())})  # says whose result was stored


def lines(log: Path, word: str, pid: int | None = None) -> list[int]:
    """Return the candidates that have begun or ended, of all workers or of one."""
    rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [int(index) for kind, index, by in rows if kind == word and pid in (None, int(by))]


def _work(where: str, wanted: CandidateSet, evaluate: Noted, pace: Pace, gate: Barrier | None) -> None:
    if gate is not None:
        gate.wait()
    with Study.open(where, wanted, pace=pace) as study:
        work(study, evaluate)


def start(
    where: str, wanted: CandidateSet, evaluate: Noted, *, pace: Pace = FAST, gate: Barrier | None = None
) -> BaseProcess:
    """Start a worker in a separate process. gate: a barrier at which several wait, to begin at the same moment."""
    return start_process(_work, where, wanted, evaluate, pace, gate)


def until(true: Callable[[], object], *, seconds: float = 300) -> None:
    """Wait until a function returns true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} seconds for nothing"
        time.sleep(0.01)


def finish(*processes: BaseProcess, seconds: float = 120) -> None:
    """Wait for workers, all of which must end well."""
    for process in processes:
        process.join(seconds)
        code = process.exitcode
        if code is None:
            process.kill()
        assert code == 0, f"a worker ended with {code}"


def assert_all_counted_once(where: str, wanted: CandidateSet) -> None:
    with Study.open(where, wanted) as study:
        candidates = study.candidates()
        assert [candidate.index for candidate in candidates] == list(range(wanted.total))
        assert study.counts().running == 0
        if wanted.candidates is not None:
            assert [(candidate.index, candidate.codes) for candidate in candidates] == list(wanted.candidates)
        assert max(Counter(candidate.hash for candidate in candidates).values()) == 1
