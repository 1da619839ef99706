"""The line from data to specs: supernets, candidates, selection, report; every stage goes on where it was."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file

from robnet_zoo.compiler import compile
from robnet_zoo.data import Images, load, resized
from robnet_zoo.environment import device, software
from robnet_zoo.genotype import Genotype
from robnet_zoo.network import Network
from robnet_zoo.search.config import Branch, Group, SearchConfig
from robnet_zoo.search.evaluation import Judge
from robnet_zoo.search.fsp import kept
from robnet_zoo.search.plan import Plan
from robnet_zoo.search.results import Candidate, StudyResult
from robnet_zoo.search.selection import picks
from robnet_zoo.search.space import Kind, SearchError, SearchSpace
from robnet_zoo.search.study import Claim, Study, work
from robnet_zoo.search.supernet import train_supernet
from robnet_zoo.training import Keeping
from robnet_zoo.training.loop import MODEL
from robnet_zoo.weights import weights_sha256

REPORT = "report.html"


@dataclass(frozen=True, eq=False)
class Search:
    """A search in its folder: `config.json`, `KIND/supernet/`, `KIND.json`, `specs/`, `report.html`.

    source: the images, as `data.load` takes them; their test part is refused. storage: of the candidates, as
    `storage.open_storage` takes it; by default `study.db` in the folder. shown: whether progress is, on stderr.
    """

    config: SearchConfig
    source: str
    folder: Path
    storage: str | None = None
    shown: bool = True

    def run(self, *, workers: int = 1, keeping: Keeping | None = None) -> list[Path]:
        """Whatever is left of the search; returns the files of the specs.

        workers: processes on this machine that evaluate candidates. Raises SearchError, and what training raises.
        """
        self.claim()
        specs: list[tuple[Genotype, Candidate]] = []
        results = []
        for branch in self.config.branches:
            part = BranchSearch(self, branch)
            self.say(f"{branch.kind}: supernet")
            part.supernet(keeping=keeping, shown=self.shown)
            with self._helped(branch.kind, workers - 1):
                part.work()
            results.append(part.result())
            results[-1].save(self.folder / f"{branch.kind}.json")
            specs += picks(results[-1])
        paths = [self.folder / "specs" / f"{spec.name}.json" for spec, _ in specs]
        for path, (spec, _) in zip(paths, specs, strict=True):
            spec.save(path)
        from robnet_zoo.search.report import write_report  # only here: drawing takes a second to import

        write_report(results, self.folder / REPORT, picks=specs)
        return paths

    def supernet(self, kind: Kind) -> Path:
        """Train what is left of a branch's supernet, in all processes of torchrun; returns the file of its weights."""
        self.claim()
        part = BranchSearch(self, self.config.branch(kind))
        part.supernet(shown=self.shown)
        return part.folder / "supernet" / MODEL

    def work(self, kind: Kind) -> None:
        """Evaluate candidates of a branch, beside any number of others, until all are done; its supernet is trained."""
        self.claim()
        BranchSearch(self, self.config.branch(kind)).work()

    def claim(self) -> None:
        """Write down what runs in this folder, or raise SearchError if it is another search."""
        path = self.folder / "config.json"
        if path.exists():
            if SearchConfig.load(path) != self.config:
                raise SearchError(f"{self.folder}: expected a folder of this search, got one with another config")
            return
        self.config.save(path)

    def say(self, text: str) -> None:
        """A line about what begins now."""
        if self.shown:
            print(text, file=sys.stderr, flush=True)

    @cached_property
    def images(self) -> Images:
        """All images, of which the last tenth is held out."""
        return load(self.source, train=True)

    @contextmanager
    def _helped(self, kind: Kind, helpers: int) -> Iterator[None]:
        """While other processes evaluate candidates too."""
        context = multiprocessing.get_context("spawn")
        arguments = (self.config.dumps(), self.source, str(self.folder), self.storage, kind, helpers + 1)
        processes = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(max(0, helpers))]
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads // (helpers + 1)))
        for process in processes:
            process.start()
        try:
            yield
            for process in processes:
                process.join()
        finally:
            torch.set_num_threads(threads)
            for process in processes:
                process.terminate()


def _work(config: str, source: str, folder: str, storage: str | None, kind: Kind, workers: int) -> None:
    """What another process of `Search.run` does."""
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    Search(SearchConfig.loads(config), source, Path(folder), storage, shown=False).work(kind)


@dataclass(frozen=True, eq=False)
class BranchSearch:
    """One branch of a search."""

    search: Search
    branch: Branch

    @property
    def kind(self) -> Kind:
        """Which one."""
        return self.branch.kind

    @property
    def folder(self) -> Path:
        """Where its supernet is."""
        return self.search.folder / self.kind

    @property
    def space(self) -> SearchSpace:
        """Where its candidates are from."""
        return self.search.config.space(self.kind)

    @cached_property
    def split(self) -> tuple[Images, Images]:
        """(training, held-out) images at the size of the branch's network."""
        training, held_out = resized(self.search.images, self.branch.network.input_size[1]).split()
        limit = self.search.config.images
        return training if limit is None else training[:limit], held_out

    def supernet(self, *, keeping: Keeping | None = None, shown: bool = True) -> Network:
        """The trained supernet; trains what is left of it."""
        whole = self.search.config.images is None  # then the trainer holds out the tenth that candidates are judged on
        images = resized(self.search.images, self.split[0].shape[-1]) if whole else self.split[0]
        folder = self.folder / "supernet"
        return train_supernet(self.space, images, self.branch.supernet, folder, keeping=keeping, progress=shown)

    @cached_property
    def judge(self) -> Judge:
        """What measures and finetunes its candidates."""
        training, held_out = self.split
        if self.search.config.images is not None:
            training = training.split()[0]  # what the supernet was trained on
        path, config = self.folder / "supernet" / MODEL, self.search.config
        if not path.exists():
            raise SearchError(f"{path.parent}: expected a trained supernet; `search run` trains it")
        network = compile(self.space.supernet())
        network.load_state_dict(load_file(path))
        network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        return Judge(network, config.evaluation, training, held_out, seed=config.seed)

    def work(self) -> None:
        """Evaluate the candidates of all groups until none is left, beside other workers."""
        for group in self.branch.groups:
            self.candidates(group)

    def candidates(self, group: Group) -> tuple[Candidate, ...]:
        """All candidates of a group, evaluated as far as they are not yet."""
        judge, filter = self.judge, group.filter
        if filter is None:
            return self._all(
                self._plan(group), lambda claim: judge.finetune(judge.score(claim.candidate, claim.spec), claim.spec)
            )
        scores = self._plan(group, "scores")
        scored = self._all(scores, lambda claim: judge.score(claim.candidate, claim.spec, filter))
        known = {candidate.index: candidate for candidate in scored}
        survivors = [(candidate.index, candidate.codes) for candidate in kept(scored, filter)]
        known |= {
            candidate.index: candidate
            for candidate in self._all(
                scores.then(survivors, phase="finetuned"), lambda claim: judge.finetune(known[claim.index], claim.spec)
            )
        }
        return tuple(known[index] for index in sorted(known))

    def result(self) -> StudyResult:
        """The document of all candidates; evaluates what is left."""
        judge, config = self.judge, self.search.config
        whole = self.space.supernet()
        accuracy = judge.score(
            Candidate(group="supernet", index=0, codes=self.space.codes(whole), hash=whole.hash), whole
        )
        return StudyResult(
            config=config,
            kind=self.kind,
            supernet_sha256=self._inputs["supernet"],
            supernet_accuracy=accuracy.before,
            data=self.search.images.name,
            data_sha256=self._inputs["images"],
            training=min(config.evaluation.images, len(judge.training)),
            validation=config.evaluation.validation,
            software=software(),
            device=device(judge.device),
            candidates=tuple(candidate for group in self.branch.groups for candidate in self.candidates(group)),
        )

    @cached_property
    def _inputs(self) -> dict[str, str]:
        """What candidates depend on beside the config."""
        weights = weights_sha256(self.judge.supernet)
        return {"supernet": weights, "images": self.search.images.sha256}

    def _plan(self, group: Group, phase: str = "") -> Plan:
        return Plan.of(self.search.config, self.kind, group, phase=phase, inputs=self._inputs)

    def _all(self, plan: Plan, evaluate: Callable[[Claim], Candidate]) -> tuple[Candidate, ...]:
        """Candidates of a plan, when all are done."""
        where = self.search.storage or str(self.search.folder / "study.db")
        with Study.open(where, plan) as study:
            if study.counts().done < plan.total:
                self.search.say(f"{plan.name}: {plan.total:,} candidates")
                work(study, evaluate, shown=self.search.shown)
            return study.candidates()
