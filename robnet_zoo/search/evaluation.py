"""The evaluation of a candidate: it inherits the supernet's weights, is measured, finetuned and measured again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robnet_zoo.core.precision import resolve_dtype
from robnet_zoo.core.units import in_image_units
from robnet_zoo.data import Images
from robnet_zoo.errors import DivergedError, SearchError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile, subnetwork
from robnet_zoo.nn.network import Network
from robnet_zoo.search.config import Evaluation, Filter
from robnet_zoo.search.fsp import fsp_distances
from robnet_zoo.search.result import Accuracy, Candidate
from robnet_zoo.search.supernet import calibrated
from robnet_zoo.training.adversary import attacked
from robnet_zoo.training.augmentation import augmented
from robnet_zoo.training.distributed import World
from robnet_zoo.training.state import state_of
from robnet_zoo.training.updates import Updates, generator
from robnet_zoo.training.validation import right, under_pgd

BATCH = 250  # how many images are measured at once


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Measures and finetunes architectures, with the same results for the same architecture in any process.

    All attacks compute in `finetune.attack.dtype`, also those that measure; their images are judged in float32. On a
    CPU, the last digits of results depend on torch's number of threads.

    Args:
        supernet: in eval mode; it is never changed.
        evaluation: what is measured.
        training, validation: disjoint images of the supernet's size, none of a test set.
        seed: of random starts and of calibration; finetuning has its recipe's.

    Raises: SearchError if there are too few images for the evaluation.
    """

    supernet: Network
    evaluation: Evaluation
    training: Images
    validation: Images
    seed: int

    def __post_init__(self) -> None:
        evaluation = self.evaluation
        if len(self.validation) < evaluation.validation:
            raise SearchError(f"expected {evaluation.validation} held-out images, got {len(self.validation)}")
        wanted = evaluation.finetune.batch * max(1, evaluation.calibration)
        if len(self.training) < wanted:
            raise SearchError(f"expected {wanted} training images to calibrate norms on, got {len(self.training)}")

    def score(self, candidate: Candidate, spec: Genotype, filter: Filter | None = None) -> Candidate:
        """Return the candidate with `before`, measured with inherited weights, and with `fsp` if there is a filter.

        The network is a mask over the supernet, so nothing is compiled.

        Args:
            candidate: before its evaluation.
            spec: the candidate's architecture.
            filter: which images FSP distances are measured on.
        """
        started = time.perf_counter()
        network = subnetwork(self.supernet, spec)
        with calibrated(network, self._calibration(network)):
            before, fsp = self.measure(network, filter)
        return candidate.model_copy(update={"before": before, "fsp": fsp, "seconds": _more(candidate, started)})

    def finetune(self, candidate: Candidate, spec: Genotype) -> Candidate:
        """Return the candidate with `after`, measured after finetuning; 0 if its loss becomes NaN or infinite."""
        started = time.perf_counter()
        try:
            network = self.finetuned(spec)
        except DivergedError:  # any worker would get the same, so trying again is useless
            diverged = Accuracy(clean=0.0, robust=0.0)
            return candidate.model_copy(update={"after": diverged, "seconds": _more(candidate, started)})
        return candidate.model_copy(update={"after": self.measure(network)[0], "seconds": _more(candidate, started)})

    def finetuned(self, spec: Genotype) -> Network:
        """Return a new network, finetuned from the supernet's weights, in eval mode. Raises DivergedError."""
        recipe = self.evaluation.finetune
        network = self.inherited(spec)
        updates = Updates(
            state_of(network, recipe, World(device=self.device)),
            self.training[: self.evaluation.images],
            recipe,
            World(device=self.device),
        )
        for _ in range(recipe.epochs):
            for _ in updates.epoch():
                pass
            updates.state.next_epoch()
        trained = updates.state.given.eval()
        assert isinstance(trained, Network)
        return trained

    def inherited(self, spec: Genotype) -> Network:
        """Return a new network with the supernet's weights and calibrated statistics, in eval mode."""
        view = subnetwork(self.supernet, spec)
        network = compile(spec).to(self.device)
        with calibrated(view, self._calibration(view)):
            network.load_state_dict(view.state_dict())
        return network.eval()

    @property
    def device(self) -> torch.device:
        """Return the device of the supernet."""
        return next(self.supernet.parameters()).device

    def measure(self, network: Network, filter: Filter | None = None) -> tuple[Accuracy, tuple[float, ...]]:
        """Return (accuracy on the validation images, FSP distances), as `config.Evaluation` and `config.Filter` say.

        The distances, one for each cell (paper, equation 4), are empty without a filter.
        """
        flows = 0 if filter is None else filter.images
        if flows > len(self.validation):
            raise SearchError(f"expected {flows} held-out images for a filter, got {len(self.validation)}")
        return measure(network, self.validation, self.evaluation, seed=self.seed, flows=flows)

    def _calibration(self, network: Network) -> Iterator[Tensor]:
        """Yield batches of training images under the attack of finetuning, here with the batch's statistics."""
        recipe, count = self.evaluation.finetune, self.evaluation.calibration
        attack = recipe.attack.model_copy(update={"statistics": "batch"})
        order = torch.randperm(len(self.training), generator=generator(self.seed, 0, 0, "calibration"))
        for index in range(count):
            batch = order[index * recipe.batch : (index + 1) * recipe.batch]
            draw = generator(self.seed, index, 0, "calibration")
            images, labels = augmented(self.training, batch, recipe.augmentation, draw)
            noise = generator(self.seed, index, 0, "calibration", device=self.device)
            yield attacked(network, images.to(self.device), labels.to(self.device), attack, noise)


def measure(
    network: Network, images: Images, evaluation: Evaluation, *, seed: int, flows: int = 0
) -> tuple[Accuracy, tuple[float, ...]]:
    """Return (accuracy on held-out images, FSP distances), the latter one for each cell (paper, equation 4) or none.

    Args:
        network: in eval mode.
        images: of which the first ones are used.
        evaluation: how many, and by which attack.
        seed: of random starts.
        flows: how many images FSP distances are measured on; with 0 there are none.
    """
    device, n = next(network.parameters()).device, evaluation.validation
    rights = torch.zeros(2, dtype=torch.float64)
    total = torch.zeros(len(network.cells), dtype=torch.float64, device=device)
    start = 0
    for clean_images, adversarial, labels in under_pgd(
        network,
        ((batch.to(device), labels.to(device)) for batch, labels in images[: max(n, flows)].batches(BATCH)),
        eps=in_image_units(evaluation.eps),
        step=in_image_units(evaluation.step),
        steps=evaluation.steps,
        dtype=resolve_dtype(evaluation.finetune.attack.dtype, device),
        generator=generator(seed, 0, 0, "measure", device=device),
    ):
        judged, flowing = max(0, n - start), max(0, flows - start)
        rights += torch.tensor([right(network, x[:judged], labels[:judged]) for x in (clean_images, adversarial)])
        if flowing:
            total += fsp_distances(network, clean_images[:flowing], adversarial[:flowing])
        start += len(labels)
    clean, robust = (rights / n).tolist()
    return Accuracy(clean=clean, robust=robust), tuple((total / flows).tolist()) if flows else ()


def _more(candidate: Candidate, started: float) -> float:
    """Return the seconds of work on a candidate, those since `started` included."""
    return round(candidate.seconds + time.perf_counter() - started, 3)
