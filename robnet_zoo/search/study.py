"""A search's candidates in Optuna, shared by any number of workers on any number of machines.

A worker claims a candidate by adding a trial. The lowest-numbered trial that is neither failed nor abandoned wins;
later ones are closed. The storage only has to number trials, so no lock is needed. An abandoned trial is one that was
closed without a result, and a closed trial never opens again.

When a worker dies, another one closes its trial as failed, which frees the candidate. If the worker was only thought
dead, it finds its trial closed and cannot finish it. So no candidate is lost and none is counted twice.

Optuna's own way would be `enqueue_trial` and `Study.optimize` with its heartbeat and its retry callback; `heartbeat.py`
says why it is not used.
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
from robnet_zoo.search.selection import best
from robnet_zoo.search.storage import one_line, open_storage

TRIES = 3  # how often the evaluation of a candidate may raise
DRAWS = 1000  # how many draws in a row may give no new architecture
OUTAGE = 600  # for how many seconds a server may be away
CandidateKey = int | str  # what all trials of a candidate share: its index or, where a sampler chooses, its hash
P = ParamSpec("P")
R = TypeVar("R")


def _patient(method: Callable[Concatenate[Study, P], R]) -> Callable[Concatenate[Study, P], R]:
    """Return the method, called again while the server is away, so that no worker loses its work to a restart."""

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
    """The progress of a study.

    total, done: candidates. running: trials. failed: the candidates that were given up, and why.
    """

    total: int
    done: int
    running: int
    failed: dict[CandidateKey, str]


class Claim:
    """A candidate that belongs to this worker alone until it is finished or given back.

    index: the candidate's in its group; where a sampler chooses, the trial's number, since the index is only known
    when the group is done.
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
        """Return the candidate before its evaluation."""
        return Candidate(group=self._study.wanted.group.name, index=self.index, codes=self.codes, hash=self.spec.hash)

    @property
    def lost(self) -> bool:
        """Return whether other workers considered this one dead, so that the rest of its work is useless."""
        return self._heartbeat.lost

    def finish(self, candidate: Candidate) -> bool:
        """Store the evaluated candidate. Return False, and store nothing, if it was taken away meanwhile.

        The study maximises robust accuracy in `after`. A candidate without `after` counts as rejected, and as done.
        Raises SearchError for another candidate than the claimed one.
        """
        if (candidate.index, candidate.codes) != (self.index, self.codes):
            raise SearchError(f"expected the result of candidate {self.index}, got that of {candidate.index}")
        self._heartbeat.stop()
        wanted, values = self._study.wanted, None
        if candidate.after is not None:
            values = [candidate.after.robust, float(multiply_adds(self.spec))][: len(wanted.directions)]
        state = TrialState.PRUNED if values is None else TrialState.COMPLETE
        return self._study._close(self.number, state, values, result=candidate.dumps())

    def give_back(self, error: str = "") -> None:
        """Leave the candidate to the next worker at once.

        error: why it could not be evaluated; if there is one, this counts as a try.
        """
        self._heartbeat.stop()
        reason = {"error": error} if error else {"closed": "given back"}
        self._study._close(self.number, TrialState.FAIL, None, **reason)


class Study:
    """The state of a candidate set in a storage. Each worker opens its own by `open`."""

    def __init__(self, wanted: CandidateSet, storage: BaseStorage, study: optuna.Study, pace: Pace) -> None:
        self.wanted = wanted
        self.pace = pace
        self._storage = storage
        self._study = study
        self._study_id = storage.get_study_id_from_name(wanted.name)
        self._watch = StaleWatch(grace=pace.grace)
        self._process = this_process()
        self._generator = random.Random(secrets.randbits(64))  # where to look after a collision
        self._results: dict[int, Candidate] = {}  # by trial; a finished one never changes
        self._since = len(self._trials())  # earlier failures are forgotten: a restart tries again

    @classmethod
    def open(cls, where: str, wanted: CandidateSet, *, pace: Pace | None = None) -> Study:
        """Open the study of a candidate set, or begin it if the storage has none.

        Args:
            where: the storage, a path or URL as `storage.open_storage` takes it.
            wanted: the candidates.
            pace: of heartbeats.

        Raises: SearchError if the storage cannot be opened, and if the study was begun with other candidates, another
        config or other inputs.
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

    @classmethod
    def stored(cls, where: str, wanted: CandidateSet) -> Study | None:
        """Open a study to read it, without its inputs; return None if the storage has none. Nothing is created.

        Args:
            where: the storage, as for `open`.
            wanted: the candidates; of what they depend on, only the config is compared.

        Raises: SearchError if the storage does not exist, and if the study was begun with another config.
        """
        storage = open_storage(where, create=False)
        try:
            study = optuna.load_study(storage=storage, study_name=wanted.name)
            begun = study.user_attrs.get("basis", {})
        except KeyError:
            return None
        except StorageInternalError as error:
            raise SearchError(f"{wanted.name}: {one_line(error)}") from None
        if not begun:  # its worker died before it wrote anything
            return None
        if begun["config"] != wanted.basis["config"]:
            raise SearchError(f"{where}: expected a study of this search, {wanted.name} was begun with another config")
        return cls(wanted, storage, study, Pace())

    @property
    def inputs(self) -> dict[str, str]:
        """Return what results depend on besides the config, by name, as the study was begun with."""
        basis: dict[str, str] = self._study.user_attrs["basis"]
        return {name: value for name, value in basis.items() if name not in ("config", "candidates")}

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
        """Close the trials of dead workers, then claim a free candidate; return None if there is none now."""
        choose = self._draw if self.wanted.candidates is None else self._take
        for attempt in range(DRAWS):
            now, trials = time.monotonic(), self._trials()
            if sum(self._bury(trial, now) for trial in trials if trial.state == TrialState.RUNNING):
                trials = self._trials()
            claim = choose(trials, attempt)
            if claim is not False:
                return claim
        raise SearchError(f"{self.wanted.name}: expected another architecture, got none in {DRAWS:,} draws")

    @_patient
    def counts(self) -> Counts:
        """Return how far all workers together are."""
        trials = self._trials()
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        return Counts(self.wanted.total, len(_done(trials)), running, self._failed(trials))

    @_patient
    def candidates(self) -> tuple[Candidate, ...]:
        """Return the candidates that are done, by index.

        Where a sampler chooses, the index is the candidate's rank in the order of trials.
        """
        done = [self._result(trial) for trial in _done(self._trials())]
        if self.wanted.candidates is None:
            return tuple(candidate.model_copy(update={"index": index}) for index, candidate in enumerate(done))
        return tuple(sorted(done, key=lambda candidate: candidate.index))

    def _result(self, trial: FrozenTrial) -> Candidate:
        if trial.number not in self._results:
            self._results[trial.number] = Candidate.loads(trial.user_attrs["result"])
        return self._results[trial.number]

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _take(self, trials: Sequence[FrozenTrial], attempt: int) -> Claim | Literal[False] | None:
        """Claim a free candidate, or return False if another worker was faster and None if none is free.

        The first attempt takes the first free candidate. Each later one chooses at random from a wider range, so that
        many workers do not meet at every candidate.
        """
        assert self.wanted.candidates is not None
        taken = {*_owners(trials), *self._failed(trials)}
        free = [(index, codes) for index, codes in self.wanted.candidates if index not in taken]
        if not free:
            return None
        index, codes = free[self._generator.randrange(min(len(free), 8 ** min(attempt, 6)))]
        return self._start(codes, index)

    def _draw(self, trials: Sequence[FrozenTrial], attempt: int) -> Claim | Literal[False] | None:
        """Claim what a sampler chose and nobody evaluated, or what it chooses now; return False if that is not free."""
        owners = _owners(trials)
        if len(owners) >= self.wanted.total:
            return None
        taken = {*owners, *self._failed(trials)}
        for old in trials:
            if old.state == TrialState.FAIL and "hash" in old.user_attrs and old.user_attrs["hash"] not in taken:
                return self._start(tuple(old.user_attrs["codes"]), None, instead=old)
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
        """Return why a chosen architecture is not evaluated, or an empty text.

        Of two workers that choose the same architecture, at most one evaluates it.
        """
        try:
            spec = self.wanted.space.genotype(codes, name="chosen")
        except DocumentError as error:
            return str(error)
        trial.set_user_attr("codes", codes)
        trial.set_user_attr("hash", spec.hash)
        trials = self._trials()
        for other in trials:
            if other.number != trial.number and not _abandoned(other) and other.user_attrs.get("hash") == spec.hash:
                return f"repeats trial {other.number}"
        return "" if self._is_wanted(trials, trial.number) else "there are enough others"

    def _is_wanted(self, trials: Sequence[FrozenTrial], number: int) -> bool:
        """Return whether a trial is among the first that make up the group."""
        return sum(owner.number < number for owner in _owners(trials).values()) < self.wanted.total

    def _start(
        self, codes: tuple[str, ...], index: int | None, *, instead: FrozenTrial | None = None
    ) -> Claim | Literal[False]:
        """Claim a candidate by a new trial, or return False if another worker was faster.

        Args:
            codes: its architecture.
            index: its number in the group, if it was drawn beforehand.
            instead: the failed trial in which a sampler chose it, which knows its generation.
        """
        token = secrets.token_hex(8)
        spec = self.wanted.space.genotype(codes, name="started")
        attributes: dict[str, Any] = {"codes": codes, "hash": spec.hash, "process": self._process, "token": token}
        parameters = self.wanted.parameters(codes) if index is None else {}
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=parameters,
                distributions=dict.fromkeys(parameters, BIT),
                user_attrs=attributes if index is None else attributes | {"index": index},
                system_attrs={} if instead is None else instead.system_attrs,
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
            except (StorageInternalError, OSError):  # the server is away; the next beat may reach it
                return True
            finally:
                self._storage.remove_session()
            return True

        return Heartbeat(beat, interval=self.pace.interval)

    def _bury(self, trial: FrozenTrial, now: float) -> bool:
        """Close a trial if its worker died; return whether it is closed."""
        attributes = trial.user_attrs
        stale = self._watch.is_stale(trial.number, attributes.get("alive"), now=now)
        if not stale and not ("process" in attributes and is_gone(attributes["process"])):
            return False
        return self._close(trial.number, TrialState.FAIL, closed="its worker died")

    @_patient
    def _close(self, number: int, state: TrialState, values: list[float] | None = None, /, **attributes: str) -> bool:
        """End a trial, or return False if it was closed before in another way."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        try:
            for name, value in attributes.items():
                self._storage.set_trial_user_attr(trial_id, name, value)
            return self._study.tell(number, values, state, skip_if_finished=True).state == state
        except UpdateFinishedTrialError:
            return False

    def _failed(self, trials: Sequence[FrozenTrial]) -> dict[CandidateKey, str]:
        """Return the candidates whose evaluation raised too often since this worker began, each with its last error."""
        errors: dict[CandidateKey, list[str]] = defaultdict(list)
        for trial in trials[self._since :]:
            if trial.state == TrialState.FAIL and "error" in trial.user_attrs:
                errors[_key(trial)].append(trial.user_attrs["error"])
        owners = _owners(trials)
        return {key: texts[-1] for key, texts in errors.items() if len(texts) >= TRIES and key not in owners}


def _key(trial: FrozenTrial) -> CandidateKey:
    """Return the key of a trial's candidate; a trial in which the sampler has yet to choose has its own key."""
    attributes = trial.user_attrs
    return attributes["index"] if "index" in attributes else attributes.get("hash", f"trial {trial.number}")


def _abandoned(trial: FrozenTrial) -> bool:
    """Return whether a trial was closed because it was not needed."""
    return trial.state == TrialState.PRUNED and "result" not in trial.user_attrs


def _owners(trials: Sequence[FrozenTrial]) -> dict[CandidateKey, FrozenTrial]:
    """Return the trial that owns each candidate: its first that is neither failed nor abandoned."""
    owners: dict[CandidateKey, FrozenTrial] = {}
    for trial in trials:
        if trial.state != TrialState.FAIL and not _abandoned(trial):
            owners.setdefault(_key(trial), trial)
    return owners


def _done(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the finished trials that own a candidate, by number."""
    owners = sorted(_owners(trials).values(), key=lambda trial: trial.number)
    return [trial for trial in owners if trial.state.is_finished()]


def work(study: Study, evaluate: Callable[[Claim], Candidate], *, shown: bool = False) -> None:
    """Evaluate candidates until all of a study are done, by this worker or by others.

    Args:
        study: the candidates.
        evaluate: returns the evaluated candidate of a claim. If it raises, the next worker tries again.
        shown: whether the progress of all workers is shown on stderr.

    Raises: SearchError if the evaluation of a candidate has raised TRIES times.
    """
    counts = study.counts()
    with bar(total=counts.total, done=counts.done, unit="candidates", shown=shown) as progress:
        while counts.done < counts.total:
            claim = study.claim()
            raised = claim is not None and not _evaluated(claim, evaluate)
            counts = study.counts()
            progress.set_postfix_str(_best_so_far(study) if shown else "", refresh=False)
            progress.update(counts.done - progress.n)
            if counts.failed and (raised or (claim is None and not counts.running)):
                name, error = next(iter(counts.failed.items()))
                raise SearchError(f"{study.wanted.name}: candidate {name} failed {TRIES} times, at last with {error}")
            if claim is None and counts.done < counts.total:
                time.sleep(study.pace.poll)


def _best_so_far(study: Study) -> str:
    """Return the most robust finetuned candidate of all workers as text, or an empty text while there is none."""
    finetuned = [candidate for candidate in study.candidates() if candidate.after is not None]
    if not finetuned:
        return ""
    leader = best(finetuned)
    assert leader.after is not None
    return f"best so far: {leader.index} with {leader.after.robust:.1%} robust, {leader.after.clean:.1%} clean"


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
