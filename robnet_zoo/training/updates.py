"""The updates of the weights: an epoch's batches, adversarial images, the loss, the optimizer's step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo.core.precision import resolve_dtype
from robnet_zoo.data import Images, PictureFiles
from robnet_zoo.errors import DivergedError, TrainingError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import subnetwork
from robnet_zoo.nn.forms.autocast import attack_form, training_form
from robnet_zoo.nn.network import Network
from robnet_zoo.training.adversary import Replay, attack_view, attacked, loss_of, rectified, rescue
from robnet_zoo.training.augmentation import Moves, augmented, resize
from robnet_zoo.training.distributed import World
from robnet_zoo.training.prefetch import Prefetcher
from robnet_zoo.training.prior import Guided, prepare
from robnet_zoo.training.recipe import Recipe, TrainingAttack
from robnet_zoo.training.state import State

CHECK_EVERY = 100  # updates, between checks that all processes hold the same weights


class Paths(Protocol):
    """Path dropout: each update trains a sub-network (paper, algorithm 1)."""

    @property
    def identity(self) -> dict[str, Any]:
        """Return what distinguishes these paths from others, as JSON."""

    def at(self, update: int) -> Genotype:
        """Return the sub-network of an update, the same in every process."""

    def beside(self, update: int, done: float) -> tuple[Genotype, ...] | None:
        """Return the sub-networks that an update trains beside the whole network, or None if it trains one path alone.

        Args:
            update: its number.
            done: the share of the run that is done.
        """

    @property
    def distils(self) -> bool:
        """Return whether those beside the whole network learn its answers instead of the labels."""


class Updates:
    """The updates of a run in this process.

    Args:
        state: of the run, which they change.
        images: the training images.
        recipe: of the run.
        world: the processes of the run.
        paths: the sub-network that each update trains, if it is not the whole network.

    Raises: TrainingError if the images are fewer than a batch.
    """

    def __init__(
        self, state: State, images: Images, recipe: Recipe, world: World, *, paths: Paths | None = None
    ) -> None:
        if len(images) < recipe.batch:
            raise TrainingError(f"expected at least one batch of {recipe.batch} training images, got {len(images)}")
        self.state, self.images, self.recipe, self.world, self.paths = state, images, recipe, world, paths
        self.near = images.on(world.device)  # what each update takes its images from
        self.steps = len(images) // recipe.batch  # an epoch
        self.native = images.shape[-1]
        self.batches: tuple[Tensor, ...] = ()  # of this epoch: the indices of the images, of all processes

    def epoch(self) -> Iterator[float]:
        """Do the rest of a pass over the images, and yield the loss of each update.

        Raises: DivergedError if a loss or a gradient is not finite.
        """
        state, recipe = self.state, self.recipe
        draw = torch.Generator().manual_seed(recipe.seed * 100_003 + state.epoch)
        order = torch.randperm(len(self.images), generator=draw)
        self.batches = order.split(recipe.batch)[: self.steps]
        own = [batch[self.world.share(recipe.batch)] for batch in self.batches]
        with Prefetcher(self._drawn_images, threaded=isinstance(self.images.pixels, PictureFiles)) as drawn:
            while state.step < self.steps:
                images, labels = drawn.get(own[state.step], state.updates)
                if state.step + 1 < self.steps:
                    each = 1 if state.rescued else recipe.updates_a_batch
                    drawn.begin(own[state.step + 1], state.updates + each)
                loss = self._step(images, labels)
                if not math.isfinite(loss):
                    raise DivergedError(f"{self._where}: expected a finite loss, got {loss}")
                state.step, state.loss = state.step + 1, state.loss + loss
                yield loss

    def _drawn_images(self, indices: Tensor, update: int) -> tuple[Tensor, Tensor]:
        """Return the images of an update, changed at random, at their own size, and their labels."""
        draw = generator(self.recipe.seed, update, self.world.rank, "images")
        return augmented(self.near, indices, self.recipe.augmentation, draw)

    @property
    def _where(self) -> str:
        return f"epoch {self.state.epoch}, step {self.state.step}"

    @property
    def size(self) -> int:
        """Return the side of the images in this epoch, in pixels."""
        return self.recipe.size_at(self.state.epoch, self.native)

    @property
    def over(self) -> float:
        """Return how many epochs are complete."""
        return self.state.epoch - 1 + self.state.step / self.steps

    @property
    def done(self) -> float:
        """Return the share of the run's work that is done."""
        return self.recipe.done(self.over, self.native)

    @property
    def strength(self) -> float:
        """Return the factor of eps and step now."""
        return self.recipe.strength(self.over, self.native)

    def _step(self, images: Tensor, labels: Tensor) -> float:
        """Train on images, (N, C, H, W), and labels, (N,), and return the mean loss over all processes.

        Batch norms see the images of their own process; running statistics are averaged after each update.
        """
        state, recipe, world = self.state, self.recipe, self.world
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.lr_at(self.over, self.native)
        strength = self.strength
        images, labels = resize(images.to(world.device), self.size), labels.to(world.device)
        attack = rescue(recipe) if state.rescued else recipe.attack
        targets = self._targets(images, labels)
        if attack.in_backward_pass:
            return self._replays(images, targets, strength=strength)
        others = None if self.paths is None else self.paths.beside(state.updates, self.done)
        if others is not None:
            return self._update(self._sandwich(others, images, labels, targets, attack, strength=strength))
        noise = generator(recipe.seed, state.updates, world.rank, "attack", device=world.device)
        network, trained = self._drawn()
        guided = self._guided(images, noise, strength=strength) if attack.remembers and strength else None
        start = None
        with self._keyed():  # an attack by the statistics of the batch has it too
            if guided is None:
                adversarial = attacked(network, images, labels, attack, noise, strength=strength, traced=recipe.compile)
            else:
                tied = recipe.objective.tie > 0
                with attack_view(network, attack, trained=trained if tied else None, traced=recipe.compile) as seen:
                    adversarial, start = guided.run(seen, labels, keep_graph=tied)
            trained.train()
            loss = loss_of(trained, images, adversarial, targets, recipe.objective, start)
        mean = self._update(loss)
        if guided is not None:
            guided.remember(world, self.batches[state.step])
        return mean

    def _targets(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return what the weights are to answer: labels, (N,), or shares of the classes, (N, K)."""
        distillation, average = self.recipe.objective.distillation, self.state.average
        if distillation is None or average is None:
            return labels
        dtype = resolve_dtype(self.recipe.attack.dtype, self.world.device)
        teacher = attack_form(average.module, dtype=dtype, traced=self.recipe.compile)
        share, temperature = distillation.at(self.done)
        return rectified(teacher, images, labels, share=share, temperature=temperature)

    def _guided(self, images: Tensor, noise: torch.Generator, *, strength: float) -> Guided:
        """Return the attack on the images of this update, (N, C, H, W), from what they have kept."""
        state, recipe = self.state, self.recipe
        _, height, width = self.images.shape
        prepare(state, recipe.attack, count=len(self.images), shape=images.shape[1:])
        draw = generator(recipe.seed, state.updates, self.world.rank, "images")  # that of `_drawn_images`
        moves = Moves.draw(len(images), recipe.augmentation, draw)
        return Guided(
            state.prior,
            images,
            self.batches[state.step][self.world.share(recipe.batch)],
            moves.scaled(images.shape[2] / height, images.shape[3] / width),
            recipe.attack,
            strength=strength,
            generator=noise,
        )

    @contextmanager
    def _keyed(self, purpose: str = "dropout", *, alike: bool = False) -> Iterator[None]:
        """Let what only knows torch's own generator, such as layers, draw from one of this update.

        Args:
            purpose: any word.
            alike: whether all processes draw the same.
        """
        device = self.world.device
        rank = 0 if alike else self.world.rank
        key = generator(self.recipe.seed, self.state.updates, rank, purpose).initial_seed()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(key)
            yield

    def _drawn(self) -> tuple[nn.Module, nn.Module]:
        """Return what this update trains: the network or a sub-network of it, and its training form."""
        if self.paths is None:
            return self.state.network, self.state.trained
        assert isinstance(self.state.network, Network), "paths are of compiled networks alone"
        network = subnetwork(self.state.network, self.paths.at(self.state.updates))
        return network, training_form(network, dtype=resolve_dtype(self.recipe.dtype, self.world.device))

    def _sandwich(
        self,
        others: Sequence[Genotype],
        images: Tensor,
        labels: Tensor,
        targets: Tensor,
        attack: TrainingAttack,
        *,
        strength: float,
    ) -> Tensor:
        """Return the mean loss of the whole network and of some sub-networks, each on images attacked for it alone.

        Args:
            others: the sub-networks.
            images: (N, C, H, W).
            labels: (N,), which attacks climb away from.
            targets: what the whole network is to answer: labels, (N,), or shares of the classes, (N, K). The others are
                to answer the same or, if the paths distil, what the whole network answers under its own attack; its
                shares are not smoothed again, and no gradient flows through them.
            attack: of the images.
            strength: the factor of eps and step.
        """
        state, recipe, whole, paths = self.state, self.recipe, self.state.network, self.paths
        assert isinstance(whole, Network), "paths are of compiled networks alone"
        assert paths is not None
        dtype, objective = resolve_dtype(recipe.dtype, self.world.device), recipe.objective
        losses = []
        for index, network in enumerate([whole, *(subnetwork(whole, spec) for spec in others)]):
            trained = training_form(network, dtype=dtype)
            noise = generator(recipe.seed, state.updates, self.world.rank, f"attack {index}", device=self.world.device)
            with self._keyed():
                adversarial = attacked(network, images, labels, attack, noise, strength=strength)
                trained.train()
                with _heard(trained) as answers:
                    losses.append(loss_of(trained, images, adversarial, targets, objective))
            if index == 0 and paths.distils:
                targets = F.softmax(answers[-1], dim=1)  # (N, K); the images under attack are answered last
                objective = objective.model_copy(update={"label_smoothing": 0.0})
        return torch.stack(losses).mean()

    def _replays(self, images: Tensor, targets: Tensor, *, strength: float) -> float:
        """Train on a batch several times, and return the mean loss."""
        state, recipe = self.state, self.recipe
        replay = Replay(state, images, recipe.attack, strength=strength)
        losses = []
        for _ in range(recipe.attack.steps):
            state.trained.train()
            with self._keyed():
                loss = loss_of(state.trained, images, replay.start(), targets, recipe.objective)
            losses.append(self._update(loss))
            if not math.isfinite(losses[-1]):
                break
            state.perturbation = replay.advance()
        return sum(losses) / len(losses)

    def _update(self, loss: Tensor) -> float:
        """Do a step of the optimizer if the loss is finite, and return the mean loss over all processes.

        Raises: DivergedError if the gradients are not finite; the weights are then as they were.
        """
        state, recipe, world = self.state, self.recipe, self.world
        mean = world.total([loss.item()])[0] / world.size
        if not math.isfinite(mean):
            return mean
        state.optimizer.zero_grad()
        loss.backward()
        parameters = list(state.network.parameters())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.paths is not None:  # of other parameters each time, which DistributedDataParallel does not foresee
            world.mean_(gradients)
        norm = nn.utils.get_total_norm(gradients)
        if not bool(norm.isfinite()):
            raise DivergedError(f"{self._where}: expected finite gradients, got some of norm {norm.item()}")
        if recipe.clip:
            nn.utils.clip_grads_with_norm_(parameters, recipe.clip, norm)
        with self._keyed("optimizer", alike=True):  # some of timm's draw
            state.optimizer.step()
        world.mean_([value for value in state.network.buffers() if value.is_floating_point()])
        state.updates += 1
        if state.updates % CHECK_EVERY == 0:
            world.check_in_step(state.network)
        if state.average is not None:
            state.average.update(state.network, step=state.updates)
        return mean


@contextmanager
def _heard(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a module answers while the context lasts, without gradients."""
    answers: list[Tensor] = []
    with module.register_forward_hook(lambda module, images, answer: answers.append(answer.detach())):
        yield answers


def generator(
    seed: int, update: int, rank: int, purpose: str, *, device: torch.device | None = None
) -> torch.Generator:
    """Return the generator of a purpose at an update in a process, so that a resumed run draws the same numbers.

    Args:
        seed: of the recipe.
        update: its number.
        rank: of the process.
        purpose: any word, such as `attack`.
        device: where the numbers are wanted; by default the CPU.
    """
    digest = hashlib.blake2b(f"{seed} {update} {rank} {purpose}".encode(), digest_size=8).digest()
    return torch.Generator(device or "cpu").manual_seed(int.from_bytes(digest, "little") >> 1)
