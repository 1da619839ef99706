"""What is measured: the model that judges, the form that attacks look at, and the identity of the function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robnet_zoo.attacks import Attack, Classifier
from robnet_zoo.benchmarks.protocol import LOOKS, Look
from robnet_zoo.benchmarks.result import ModelIdentity
from robnet_zoo.core.precision import Arithmetic
from robnet_zoo.core.units import LEVELS
from robnet_zoo.data.images import channels_advice
from robnet_zoo.errors import DataError, TargetError
from robnet_zoo.nn.forms.cuda_graphs import Replayed
from robnet_zoo.nn.forms.traced import Traced

NARROW = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Target:
    """A classifier of images (N, C, H, W) in [0, 1]; if it normalises them, it does so inside.

    Args:
        identity: which function this is.
        judge: the original, in float32 and eval mode. Its verdict counts.
        proposer: a form of the same function that attacks can differentiate, the fast form if there is one. None if
            there is none.
        num_classes: how many logits the classifier gives, if that is known.
        input_size: (C, H, W), or None if the classifier takes any size.
        fine: of a torch module, the fast form in float32 beside a proposer in bfloat16, if a look that was asked for it
            showed it to be true.
        proposed_in: makes the fast form that proposes in another dtype. None if there is no fast form.
        why_not: one line that says why there is no proposer, or why the judge is its own where a fast form was to be.
        device: where images must be.
        module: the model as it was handed over, in its own mode, as a classifier of float32 images in [0, 1]. None for
            a file.
        training_sha256: `Images.sha256` of the training images, if they are known.
        provenance: where the architecture comes from, in the words of its spec.
        probed: whether it was looked at with a few images; see `robnet_zoo.benchmarks.targets.probe`.
        output: which part of the module's output counts as logits, in words, if it gives more than them.
        twin: of a quantised file, the form that does not round; the proposer rounds, and passes gradients through it.
        unoptimised: a quantised file, run without optimising its graph.
        exact: a file whose sums may saturate on some processors, run so that they cannot.
        stated: the normalisation that timm's configuration of the model states, whether or not it is used.
    """

    identity: ModelIdentity
    judge: Classifier
    proposer: Classifier | None
    num_classes: int | None = None
    input_size: tuple[int, int, int] | None = None
    why_not: str = ""
    device: torch.device | str = "cpu"
    module: nn.Module | None = None
    training_sha256: str | None = None
    provenance: str | None = None
    probed: bool = False
    output: str = ""
    twin: Classifier | None = None
    unoptimised: Classifier | None = None
    exact: Classifier | None = None
    stated: Normalisation | None = None
    fine: Classifier | None = None
    proposed_in: Callable[[torch.dtype], Classifier] | None = None

    @property
    def name(self) -> str:
        """Return the name under which results list this target."""
        return self.identity.name

    def form_for(self, attack: Attack) -> Classifier:
        """Return the form that an attack looks at.

        The proposer, unless bfloat16 would round away the small changes that the attack follows: an attack without
        gradients, or one that ends on the boundary itself, gets the fast form in float32 where the proposer is narrow,
        or the original if there is none. For a file, one without gradients gets the file itself.
        """
        of_module = self.identity.kind == "torch"
        narrow = not of_module or self.proposer is None or is_narrow(self.proposer)
        if (attack.gradient_free or (attack.precise and of_module)) and narrow:
            return self.judge if self.fine is None else self.fine
        assert self.proposer is not None, "gradients are asked for before attacks begin"
        return self.proposer

    def forms_for(self, attack: Attack, looks: Sequence[Look] | None) -> list[Classifier]:
        """Return the forms that an attack looks at in turn: of a quantised file, one for each way to look at it.

        Args:
            attack: without gradients it gets the original alone.
            looks: the ways, by default all.
        """
        if self.twin is None or attack.gradient_free:
            return [self.form_for(attack)]
        forms = {"straight_through": self.form_for(attack), "twin": self.twin}
        return [forms[look] for look in looks or LOOKS]

    def proposing_in(self, dtype: Arithmetic) -> Target:
        """Return the same target with a proposer that rounds no more than a protocol's dtype does.

        For float32, a proposer in bfloat16, whoever made it, gives way to the target's own fast form in float32. For
        bfloat16 the proposer stays, since on devices without bfloat16 it is in float32.
        """
        if dtype == "bfloat16" or self.proposed_in is None or not is_narrow(self.proposer):
            return self
        if self.fine is not None:
            return replace(self, proposer=self.fine, probed=False)
        form = self.proposed_in(torch.float32)
        return replace(self, proposer=Replayed(form) if isinstance(self.proposer, Replayed) else form, probed=False)

    def with_cuda_graphs(self) -> Target:
        """Return the same target, whose proposers are replayed from CUDA graphs (`robnet_zoo.nn.forms.cuda_graphs`).

        Raises: TargetError if it is not on a GPU.
        """
        if torch.device(self.device).type != "cuda":
            raise TargetError(
                f"{self.name}: expected a model on a CUDA device for CUDA graphs, got one on {self.device}"
            )
        proposer, twin = (form and Replayed(form) for form in (self.proposer, self.twin))
        return replace(self, proposer=proposer, twin=twin, probed=False)


def traced_form(proposer: Classifier | None) -> Traced | None:
    """Return the traced form that a proposer is, by itself or replayed from CUDA graphs, if it is one."""
    form = proposer.classifier if isinstance(proposer, Replayed) else proposer
    return form if isinstance(form, Traced) else None


def is_narrow(proposer: Classifier | None) -> bool:
    """Return whether a proposer computes in a type that rounds at thousandths."""
    form = traced_form(proposer)
    if form is not None:
        return form.dtype in NARROW
    parameters = proposer.parameters() if isinstance(proposer, nn.Module) else ()
    return any(parameter.dtype in NARROW for parameter in parameters)


@dataclass(frozen=True)
class Normalisation:
    """(images - mean) / std, with a number for each channel, or a single one for all."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def for_channels(self, channels: int) -> Normalisation:
        """Return the same with a number for each of so many channels, if there is a single one for all."""
        if len(self.mean) > 1:
            return self
        return Normalisation(self.mean * channels, self.std * channels)


class Normalised(nn.Module):
    """A classifier of normalised images as one of images in [0, 1]."""

    def __init__(self, classifier: Classifier, normalisation: Normalisation, *, device: torch.device) -> None:
        super().__init__()
        self.classifier = classifier
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", normalisation.mean), ("std", normalisation.std)):
            self.register_buffer(name, torch.tensor(values, device=device)[:, None, None])  # (C, 1, 1)
        self.training = getattr(classifier, "training", False)  # the classifier keeps its mode

    def forward(self, images: Tensor) -> Tensor:
        got, expected = images.shape[1], len(self.mean)
        if got != expected > 1:  # broadcasting would silently stretch one channel to three
            advice = channels_advice(got, expected)
            raise DataError(f"expected images of {expected} channels, as mean and std, got {got}{advice}")
        return self.classifier((images - self.mean) / self.std)


def normalisation_from(name: str, mean: Sequence[float] | None, std: Sequence[float] | None) -> Normalisation | None:
    """Return the normalisation that a caller gave for a target, or None if the caller gave none.

    Args:
        name: of the target, for messages.
        mean: one number a channel, or a single one for all.
        std: one number a channel, or a single one for all.

    Raises: TargetError unless mean and std are finite numbers, as many of one as of the other, with std above 0, and
        no mean is above 1, which no image is.
    """
    if mean is None and std is None:
        return None
    means, deviations = _numbers(mean), _numbers(std)
    lengths = {len(means), len(deviations)}
    if 0 in lengths or (len(lengths) > 1 and 1 not in lengths):
        raise TargetError(f"{name}: expected mean and std, a number a channel each, got {mean} and {std}")
    if not all(map(math.isfinite, means)) or not all(math.isfinite(value) and value > 0 for value in deviations):
        raise TargetError(f"{name}: expected finite means and positive deviations, got {mean} and {std}")
    if max(means) > 1:
        levels = ", did you mean both divided by 255?" if max(means) <= LEVELS else ""
        raise TargetError(f"{name}: expected means of images in [0, 1], got {mean} and {std}{levels}")
    channels = max(lengths)
    return Normalisation(*(values * (channels if len(values) == 1 else 1) for values in (means, deviations)))


def _numbers(values: Sequence[float] | float | None) -> tuple[float, ...]:
    """Return one number or several as a tuple, which is empty for anything else."""
    try:
        if values is None or isinstance(values, int | float):
            return () if values is None else (float(values),)
        return tuple(map(float, values))
    except (TypeError, ValueError, OverflowError):
        return ()


def inside(classifier: Classifier, normalisation: Normalisation | None, device: torch.device) -> Classifier:
    """Return the classifier with the normalisation inside it, if there is one.

    Args:
        classifier: takes normalised images.
        normalisation: None for a classifier that takes images in [0, 1].
        device: of the images.
    """
    return classifier if normalisation is None else Normalised(classifier, normalisation, device=device)
