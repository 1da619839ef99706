"""The pipeline from data to specs: supernets, candidates, selection. Every stage resumes where it stopped.

The report is not part of it: reports stand below the search in the order of folders, so the command writes it.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file

from robnet_zoo.core.environment import device, software
from robnet_zoo.core.waiting import SignOfLife
from robnet_zoo.core.wording import counted
from robnet_zoo.data import Images, check_sample, load, resized
from robnet_zoo.errors import SearchError
from robnet_zoo.nn.compiler import compile
from robnet_zoo.nn.network import Network
from robnet_zoo.search.candidates import CandidateSet
from robnet_zoo.search.config import Branch, CandidateGroup, SearchConfig
from robnet_zoo.search.evaluation import Evaluator
from robnet_zoo.search.fsp import kept
from robnet_zoo.search.result import Candidate, StudyResult
from robnet_zoo.search.selection import picks
from robnet_zoo.search.space import Kind, SearchSpace
from robnet_zoo.search.study import Claim, Study, work
from robnet_zoo.search.supernet import train_supernet
from robnet_zoo.training import Keeping
from robnet_zoo.training.loop import MODEL
from robnet_zoo.zoo.weights import state_sha256


@dataclass(frozen=True, eq=False)
class Search:
    """A search in its folder: `config.json`, `KIND/supernet/`, `KIND.json`, `specs/`.

    Args:
        config: what is searched.
        source: the images, as `data.load` takes them; their test part is refused.
        folder: where everything is written.
        storage: of the candidates, as `storage.open_storage` takes it; by default `study.db` in the folder.
        shown: whether progress is shown on stderr.
    """

    config: SearchConfig
    source: str
    folder: Path
    storage: str | None = None
    shown: bool = True

    def run(self, *, workers: int = 1, keeping: Keeping | None = None) -> list[Path]:
        """Do whatever is left of the search and return the files of the specs.

        Args:
            workers: how many processes on this machine evaluate candidates. On a CPU each has one thread, so that
                results do not depend on how many there are.
            keeping: which checkpoints of the supernets are kept.

        Raises: SearchError, and what training raises.
        """
        if workers < 1:
            raise SearchError(f"expected at least 1 worker, got {workers}")
        with SignOfLife(f"reading {self.source}", shown=self.shown):
            parts = [self.part(branch.kind) for branch in self.config.branches]
        self.claim()
        paths = []
        for part in parts:
            self.say(f"{part.kind}: supernet")
            part.supernet(keeping=keeping)
            with self._helped(part.kind, workers - 1):
                result = part.result()
            result.save(self.documents[part.kind])
            for spec, _ in picks(result):
                paths.append(self.folder / "specs" / f"{spec.name}.json")
                spec.save(paths[-1])
        return paths

    @property
    def documents(self) -> dict[Kind, Path]:
        """Return the file of each branch."""
        return {branch.kind: self.folder / f"{branch.kind}.json" for branch in self.config.branches}

    def supernet(self, kind: Kind) -> Path:
        """Train what is left of a branch's supernet, in all processes of torchrun; return the file of its weights."""
        part = self.part(kind)
        self.claim()
        part.supernet()
        return part.folder / "supernet" / MODEL

    def work(self, kind: Kind) -> None:
        """Evaluate candidates of a branch, beside any number of other workers, until all are done.

        Raises SearchError if its supernet is not trained yet, and if an evaluation fails.
        """
        part = self.part(kind)
        self.claim()
        part.work()

    def part(self, kind: Kind) -> BranchSearch:
        """Return the search of a branch. Raises SearchError if there is none or the images are too few for it."""
        part = BranchSearch(self, self.config.branch(kind))
        part.check()
        return part

    def claim(self) -> None:
        """Write the config into the folder, or raise SearchError if another search has it."""
        path = self.folder / "config.json"
        if path.exists():
            if SearchConfig.load(path) != self.config:
                raise SearchError(f"{self.folder}: expected a folder of this search, got one with another config")
            return
        self.config.save(path)

    def say(self, text: str) -> None:
        """Print a line about what begins now."""
        if self.shown:
            print(text, file=sys.stderr, flush=True)

    @cached_property
    def images(self) -> Images:
        """Return all images, of which the last tenth is held out."""
        return load(self.source, train=True)

    @contextmanager
    def _helped(self, kind: Kind, helpers: int) -> Iterator[None]:
        """Let other processes evaluate candidates too while the context lasts."""
        context = multiprocessing.get_context("spawn")
        arguments = (self.config.dumps(), self.source, str(self.folder), self.storage, kind)
        processes = [context.Process(target=run_worker, args=arguments, daemon=True) for _ in range(helpers)]
        for process in processes:
            process.start()
        try:
            yield
            for process in processes:
                process.join()
        finally:
            for process in processes:
                process.terminate()
                process.join()


def run_worker(config: str, source: str, folder: str, storage: str | None, kind: Kind) -> None:
    """Evaluate candidates in another process of `Search.run`. An error is printed in a line.

    Args:
        config: the search, as JSON.
        source: the images, as `data.load` takes them.
        folder: the search's folder.
        storage: of the studies, as `Search` takes it.
        kind: the branch.
    """
    try:
        Search(SearchConfig.loads(config), source, Path(folder), storage, shown=False).work(kind)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"robnet-zoo: a worker ended: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute with one thread on the CPU, as every worker does, while the context lasts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, eq=False)
class BranchSearch:
    """The search of a branch."""

    search: Search
    branch: Branch

    @property
    def kind(self) -> Kind:
        """Return the branch's kind."""
        return self.branch.kind

    @property
    def folder(self) -> Path:
        """Return the folder of its supernet."""
        return self.search.folder / self.kind

    @property
    def space(self) -> SearchSpace:
        """Return the space of its candidates."""
        return self.search.config.space(self.kind)

    @cached_property
    def images(self) -> Images:
        """Return all images at the size of the branch's network."""
        return resized(self.search.images, self.branch.network.input_size[1])

    @cached_property
    def split(self) -> tuple[Images, Images]:
        """Return the (training, held-out) images."""
        training, held_out = self.images.split()
        limit = self.search.config.images
        return training if limit is None else training[:limit], held_out

    @property
    def given(self) -> Images:
        """Return the images that are given to the trainer, which holds out the last tenth of them.

        Without a limit, that is the tenth that candidates are judged on.
        """
        return self.images if self.search.config.images is None else self.split[0]

    def supernet(self, *, keeping: Keeping | None = None) -> Network:
        """Return the trained supernet; train what is left of it."""
        return train_supernet(
            self.space,
            self.given,
            self.branch.supernet,
            self.folder / "supernet",
            sandwich=self.branch.sandwich,
            keeping=keeping,
            progress=self.search.shown,
        )

    @cached_property
    def evaluator(self) -> Evaluator:
        """Return the evaluator of its candidates. Raises SearchError if the supernet is not trained."""
        path, config = self.folder / "supernet" / MODEL, self.search.config
        if not path.exists():
            raise SearchError(f"{path.parent}: expected a trained supernet; `search run` trains it")
        network = compile(self.space.supernet())
        network.load_state_dict(load_file(path))
        network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        return Evaluator(network, config.evaluation, *self._measured_on, seed=config.seed)

    @property
    def _measured_on(self) -> tuple[Images, Images]:
        """Return the images (that the supernet was trained on, that are held out)."""
        return self.given.split()[0], self.split[1]

    def check(self) -> None:
        """Raise SearchError or DataError, before any work, if images or candidates are too few.

        Images that are sorted by class are refused too.
        """
        check_sample(self.split[1], self.split[0], called="the last tenth, which is held out,")
        training, held_out = map(len, self._measured_on)
        evaluation = self.search.config.evaluation
        filters = [group.filter.images for group in self.branch.groups if group.filter]
        held_wanted = max([evaluation.validation, *filters])
        wanted = max(self.branch.supernet.batch, evaluation.finetune.batch * max(1, evaluation.calibration))
        if training < wanted or held_out < held_wanted:
            raise SearchError(
                f"{self.search.images.name}: expected at least {wanted:,} images to train on and {held_wanted:,} held "
                f"out, got {training:,} and {held_out:,}"
            )
        self._drawn.keys()  # which are drawn here for the first time, and may be impossible

    def work(self) -> None:
        """Evaluate the candidates of all groups until none is left, beside other workers."""
        with _one_thread():
            for group in self.branch.groups:
                self.candidates(group)

    def candidates(self, group: CandidateGroup) -> tuple[Candidate, ...]:
        """Return all candidates of a group; evaluate those that are not yet."""
        evaluator, filter = self.evaluator, group.filter
        if filter is None:
            return self._all(
                self._candidate_set(group),
                lambda claim: evaluator.finetune(evaluator.score(claim.candidate, claim.spec), claim.spec),
            )
        scores = self._candidate_set(group, "scores")
        scored = self._all(scores, lambda claim: evaluator.score(claim.candidate, claim.spec, filter))
        known = {candidate.index: candidate for candidate in scored}
        survivors = [(candidate.index, candidate.codes) for candidate in kept(scored, filter)]
        known |= {
            candidate.index: candidate
            for candidate in self._all(
                scores.then(survivors, phase="finetuned"),
                lambda claim: evaluator.finetune(known[claim.index], claim.spec),
            )
        }
        return tuple(known[index] for index in sorted(known))

    def result(self) -> StudyResult:
        """Return the document of all candidates; evaluate what is left."""
        with _one_thread():
            return self._result()

    def _result(self) -> StudyResult:
        evaluator, config = self.evaluator, self.search.config
        candidates = tuple(candidate for group in self.branch.groups for candidate in self.candidates(group))
        whole = self.space.supernet()
        accuracy = evaluator.score(
            Candidate(group="supernet", index=0, codes=self.space.codes(whole), hash=whole.hash), whole
        )
        return StudyResult(
            config=config,
            kind=self.kind,
            supernet_state_sha256=self._inputs["supernet"],
            supernet_accuracy=accuracy.before,
            data=self.search.images.name,
            data_sha256=self._inputs["images"],
            training=min(config.evaluation.images, len(evaluator.training)),
            validation=config.evaluation.validation,
            software=software(),
            device=device(evaluator.device),
            candidates=candidates,
        )

    @cached_property
    def _inputs(self) -> dict[str, str]:
        """Return what candidates depend on besides the config, by name."""
        weights = state_sha256(self.evaluator.supernet.state_dict())
        return {"supernet": weights, "images": self.search.images.sha256}

    @cached_property
    def _drawn(self) -> dict[str, CandidateSet]:
        """Return the candidates of each group, without what their results depend on. Raises SearchError."""
        return {group.name: CandidateSet.of_group(self.search.config, self.kind, group) for group in self.branch.groups}

    def _candidate_set(self, group: CandidateGroup, phase: str = "") -> CandidateSet:
        return replace(self._drawn[group.name], phase=phase, inputs=self._inputs)

    def _all(self, wanted: CandidateSet, evaluate: Callable[[Claim], Candidate]) -> tuple[Candidate, ...]:
        """Return the candidates of a set when all are done."""
        where = self.search.storage or str(self.search.folder / "study.db")
        with Study.open(where, wanted) as study:
            if study.counts().done < wanted.total:
                self.search.say(f"{wanted.name}: {counted(wanted.total, 'candidate')}")
                work(study, evaluate, shown=self.search.shown)
            return study.candidates()
