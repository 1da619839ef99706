"""A search's candidates in Optuna, shared by any number of workers on any number of machines.

A claim is a new trial that runs. It is atomic on every storage, as trials are numbered one after the other: of all
trials of a candidate, the first one that is not void is the candidate's, and who has made another one closes it. Void
are trials that failed and those that were closed without a result; no trial that is closed ever opens again. When a
worker died, its trial is closed as failed, which leaves the candidate to the next worker; who was only taken for dead
cannot finish it any more. So no candidate is lost and none is counted twice.
"""

from __future__ import annotations

import functools
import logging
import random
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from robnet_zoo.core.progress import bar
from robnet_zoo.errors import DocumentError, SearchError
from robnet_zoo.genotype.blueprint import multiply_adds
from robnet_zoo.search.candidates import BIT, CandidateSet
from robnet_zoo.search.heartbeat import Heartbeat, Pace, StaleWatch, is_gone, this_process
from robnet_zoo.search.result import Candidate
from robnet_zoo.search.storage import one_line, open_storage

TRIES = 3  # of an evaluation that raises
DRAWS = 1000  # in a row without a new architecture
OUTAGE = 600  # seconds that a server may be away
CandidateKey = int | str  # what all trials of a candidate share: its index or, where a sampler chooses, its hash
P = ParamSpec("P")
R = TypeVar("R")


def _patient(method: Callable[Concatenate[Study, P], R]) -> Callable[Concatenate[Study, P], R]:
    """Try again while the server is away, so that a restart of it costs no worker its work."""

    @functools.wraps(method)
    def patient(self: Study, /, *args: P.args, **kwargs: P.kwargs) -> R:
        end, wait = time.monotonic() + OUTAGE, 0.5
        while True:
            try:
                return method(self, *args, **kwargs)
            except StorageInternalError as error:
                reason = f"{self.wanted.name}: {one_line(error)}"
                if time.monotonic() > end:
                    raise SearchError(reason) from None
            logging.getLogger(__name__).warning("%s; trying again", reason)
            time.sleep(wait)
            wait = min(2 * wait, 30)

    return patient


@dataclass(frozen=True)
class Counts:
    """How far a study is. running: trials; failed: candidates that are given up, and why."""

    total: int
    done: int
    running: int
    failed: dict[CandidateKey, str]


class Claim:
    """A candidate that this worker alone has, until it finishes it or gives it back.

    index: its place; where a sampler chooses, the trial's number, and the place is known when the group is done.
    """

    def __init__(self, study: Study, number: int, codes: tuple[str, ...], index: int, heartbeat: Heartbeat) -> None:
        self.codes = codes
        self.index = index
        self.spec = study.wanted.space.genotype(codes, name=f"{study.wanted.group.name}_{index}")
        self.number = number
        self._study = study
        self._heartbeat = heartbeat

    @property
    def candidate(self) -> Candidate:
        """What is known of it before it is evaluated."""
        return Candidate(group=self._study.wanted.group.name, index=self.index, codes=self.codes, hash=self.spec.hash)

    @property
    def lost(self) -> bool:
        """Whether others took this worker for dead, so that the rest of the work is in vain."""
        return self._heartbeat.lost

    def finish(self, candidate: Candidate) -> bool:
        """Store what was found. False, and nothing is stored, if the candidate was taken away meanwhile.

        `after` is what the study maximises; a candidate without it counts as rejected, and is done as well.
        """
        if (candidate.index, candidate.codes) != (self.index, self.codes):
            raise ValueError(f"expected the result of candidate {self.index}, got that of {candidate.index}")
        self._heartbeat.stop()
        wanted, values = self._study.wanted, None
        if candidate.after is not None:
            values = [candidate.after.robust, float(multiply_adds(self.spec))][: len(wanted.directions)]
        state = TrialState.PRUNED if values is None else TrialState.COMPLETE
        return self._study._close(self.number, state, values, result=candidate.dumps())

    def give_back(self, error: str = "") -> None:
        """Leave the candidate to the next worker, at once. error: why it could not be evaluated; counts as a try."""
        self._heartbeat.stop()
        known = {"error": error} if error else {"closed": "given back"}
        self._study._close(self.number, TrialState.FAIL, None, **known)


class Study:
    """The candidates of one wanted; `open` it in each worker."""

    def __init__(self, wanted: CandidateSet, storage: BaseStorage, study: optuna.Study, pace: Pace) -> None:
        self.wanted = wanted
        self.pace = pace
        self._storage = storage
        self._study = study
        self._study_id = storage.get_study_id_from_name(wanted.name)
        self._watch = StaleWatch(grace=pace.grace)
        self._process = this_process()
        self._generator = random.Random(secrets.randbits(64))  # where to look after a collision; no result needs it
        self._since = len(self._trials())  # failures from before are forgotten: to start again is to try again

    @classmethod
    def open(cls, where: str, wanted: CandidateSet, *, pace: Pace | None = None) -> Study:
        """The study of a wanted in a storage, begun if there is none.

        where: a path or URL as `storage.open_storage` takes it. Raises SearchError, also where the study was begun
        with other candidates, another config or other inputs.
        """
        storage = open_storage(where)
        try:
            study = optuna.create_study(
                storage=storage, study_name=wanted.name, directions=wanted.directions, load_if_exists=True
            )
            if "basis" not in study.user_attrs:
                study.set_user_attr("basis", wanted.basis)
            begun = study.user_attrs["basis"]
        except StorageInternalError as error:
            raise SearchError(f"{wanted.name}: {one_line(error)}") from None
        if begun != wanted.basis:
            other = sorted(name for name in {*begun, *wanted.basis} if begun.get(name) != wanted.basis.get(name))
            raise SearchError(f"{wanted.name}: was begun with other {', '.join(other)}; keep this search elsewhere")
        return cls(wanted, storage, study, pace or Pace())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._storage.remove_session()
        if isinstance(self._storage, RDBStorage):
            self._storage.engine.dispose()

    @_patient
    def claim(self) -> Claim | None:
        """Take a candidate that nobody has; None if there is none at this moment. Closes trials of dead workers."""
        choose = self._draw if self.wanted.candidates is None else self._take
        for attempt in range(DRAWS):
            now, trials = time.monotonic(), self._trials()
            if sum(self._bury(trial, now) for trial in trials if trial.state == TrialState.RUNNING):
                trials = self._trials()
            claim = choose(trials, attempt)
            if claim is not False:
                return claim
        raise SearchError(f"{self.wanted.name}: expected another architecture, found none in {DRAWS:,} draws")

    @_patient
    def counts(self) -> Counts:
        """How far all workers together are."""
        trials = self._trials()
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        return Counts(self.wanted.total, len(_done(trials)), running, self._failed(trials))

    @_patient
    def candidates(self) -> tuple[Candidate, ...]:
        """All that are done, by index. Where a sampler chooses, they are numbered in the order of their trials."""
        done = [(trial, Candidate.loads(trial.user_attrs["result"])) for trial in _done(self._trials())]
        if self.wanted.candidates is None:
            return tuple(found.model_copy(update={"index": index}) for index, (_, found) in enumerate(done))
        return tuple(sorted((found for _, found in done), key=lambda found: found.index))

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _take(self, trials: Sequence[FrozenTrial], attempt: int) -> Claim | Literal[False] | None:
        """Claim the wanted's first candidate that is free; False if another worker was faster.

        Then it looks further afield, the more so the more often, so that many workers do not meet at each candidate.
        """
        assert self.wanted.candidates is not None
        taken = {*_owners(trials), *self._failed(trials)}
        free = [(index, codes) for index, codes in self.wanted.candidates if index not in taken]
        if not free:
            return None
        index, codes = free[self._generator.randrange(min(len(free), 8 ** min(attempt, 6)))]
        return self._start(codes, index)

    def _draw(self, trials: Sequence[FrozenTrial], attempt: int) -> Claim | Literal[False] | None:
        """Claim what was chosen and not evaluated, or what the sampler chooses now; False if that was in vain."""
        owners = _owners(trials)
        if len(owners) >= self.wanted.total:
            return None
        taken = {*owners, *self._failed(trials)}
        for old in trials:
            if old.state == TrialState.FAIL and "hash" in old.user_attrs and old.user_attrs["hash"] not in taken:
                return self._start(tuple(old.user_attrs["codes"]), None)
        trial = self._study.ask()
        heartbeat = self._heartbeat(trial.number)
        try:
            trial.set_user_attr("process", self._process)
            codes = self.wanted.choose(self._study, trial)
            reason = self._objection(trial, codes)
        except BaseException:
            heartbeat.stop()
            self._close(trial.number, TrialState.FAIL, closed="given back")
            raise
        if not reason:
            return Claim(self, trial.number, codes, trial.number, heartbeat)
        heartbeat.stop()
        self._close(trial.number, TrialState.PRUNED, closed=reason)
        return False

    def _objection(self, trial: optuna.Trial, codes: tuple[str, ...]) -> str:
        """Why a chosen architecture is not evaluated. Of two workers that choose the same one, at most one may."""
        try:
            spec = self.wanted.space.genotype(codes, name="chosen")
        except DocumentError as error:
            return str(error)
        trial.set_user_attr("codes", codes)
        trial.set_user_attr("hash", spec.hash)
        trials = self._trials()
        for other in trials:
            if other.number != trial.number and not _closed(other) and other.user_attrs.get("hash") == spec.hash:
                return f"repeats trial {other.number}"
        return "" if self._is_wanted(trials, trial.number) else "enough others are there"

    def _is_wanted(self, trials: Sequence[FrozenTrial], number: int) -> bool:
        """Whether a trial is among the first that make up the group."""
        return sum(owner.number < number for owner in _owners(trials).values()) < self.wanted.total

    def _start(self, codes: tuple[str, ...], index: int | None) -> Claim | Literal[False]:
        """Claim a candidate by a new trial; False if another worker was faster."""
        token = secrets.token_hex(8)
        spec = self.wanted.space.genotype(codes, name="started")
        known: dict[str, Any] = {"codes": codes, "hash": spec.hash, "process": self._process, "token": token}
        parameters = self.wanted.parameters(codes) if index is None else {}
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=parameters,
                distributions=dict.fromkeys(parameters, BIT),
                user_attrs=known if index is None else known | {"index": index},
            )
        )
        trials = self._trials()
        trial = next(trial for trial in trials if trial.user_attrs.get("token") == token)
        number = trial.number
        if _owners(trials)[_key(trial)].number == number and self._is_wanted(trials, number):
            return Claim(self, number, codes, number if index is None else index, self._heartbeat(number))
        self._close(number, TrialState.PRUNED, closed="another worker was faster")
        return False

    def _heartbeat(self, number: int) -> Heartbeat:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

        def beat() -> bool:
            try:
                self._storage.set_trial_user_attr(trial_id, "alive", time.time())
            except UpdateFinishedTrialError:
                return False
            except (StorageInternalError, OSError):  # the server is away; the next one may come through
                return True
            finally:
                self._storage.remove_session()
            return True

        return Heartbeat(beat, interval=self.pace.interval)

    def _bury(self, trial: FrozenTrial, now: float) -> bool:
        """Close a trial whose worker died; True if it is closed."""
        known = trial.user_attrs
        old = self._watch.is_old(trial.number, known.get("alive"), now=now)
        if not old and not ("process" in known and is_gone(known["process"])):
            return False
        return self._close(trial.number, TrialState.FAIL, closed="its worker died")

    @_patient
    def _close(self, number: int, state: TrialState, values: list[float] | None = None, /, **known: str) -> bool:
        """End a trial; False if it was closed before in another way."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        try:
            for name, value in known.items():
                self._storage.set_trial_user_attr(trial_id, name, value)
            return self._study.tell(number, values, state, skip_if_finished=True).state == state
        except UpdateFinishedTrialError:
            return False

    def _failed(self, trials: Sequence[FrozenTrial]) -> dict[CandidateKey, str]:
        """The candidates whose evaluation has raised too often since this worker began, and the last error."""
        errors: dict[CandidateKey, list[str]] = defaultdict(list)
        for trial in trials[self._since :]:
            if trial.state == TrialState.FAIL and "error" in trial.user_attrs:
                errors[_key(trial)].append(trial.user_attrs["error"])
        owners = _owners(trials)
        return {key: texts[-1] for key, texts in errors.items() if len(texts) >= TRIES and key not in owners}


def _key(trial: FrozenTrial) -> CandidateKey:
    """A trial in which the sampler has yet to choose is a candidate of its own."""
    known = trial.user_attrs
    return known["index"] if "index" in known else known.get("hash", f"trial {trial.number}")


def _closed(trial: FrozenTrial) -> bool:
    """Whether it was closed because it was not needed."""
    return trial.state == TrialState.PRUNED and "result" not in trial.user_attrs


def _owners(trials: Sequence[FrozenTrial]) -> dict[CandidateKey, FrozenTrial]:
    """Of each candidate, the first trial that is not void."""
    void = (trial.state == TrialState.FAIL or _closed(trial) for trial in reversed(trials))
    return {_key(trial): trial for trial, is_void in zip(reversed(trials), void, strict=True) if not is_void}


def _done(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count, by number."""
    owners = sorted(_owners(trials).values(), key=lambda trial: trial.number)
    return [trial for trial in owners if trial.state.is_finished()]


def work(study: Study, evaluate: Callable[[Claim], Candidate], *, shown: bool = False) -> None:
    """Evaluate candidates until all of a study are done, those of other workers too.

    evaluate: what raises is tried again, by whoever comes first. shown: the progress of all workers, on stderr. Raises
    SearchError where an evaluation has raised TRIES times.
    """
    counts = study.counts()
    with bar(total=counts.total, done=counts.done, unit="candidates", shown=shown) as progress:
        while counts.done < counts.total:
            claim = study.claim()
            raised = claim is not None and not _evaluated(claim, evaluate)
            counts = study.counts()
            progress.update(counts.done - progress.n)
            if counts.failed and (raised or (claim is None and not counts.running)):
                name, error = next(iter(counts.failed.items()))
                raise SearchError(f"{study.wanted.name}: candidate {name} failed {TRIES} times, at last with {error}")
            if claim is None and counts.done < counts.total:
                time.sleep(study.pace.poll)


def _evaluated(claim: Claim, evaluate: Callable[[Claim], Candidate]) -> bool:
    try:
        candidate = evaluate(claim)
    except Exception as error:
        claim.give_back(" ".join(f"{type(error).__name__}: {error}".split()))
        return False
    except BaseException:
        claim.give_back()
        raise
    claim.finish(candidate)
    return True
