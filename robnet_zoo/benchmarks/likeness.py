"""Compare two targets: do they compute the same function, and if not, where do they part?"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robnet_zoo.attacks import Classifier
from robnet_zoo.attacks.gradient import input_gradient
from robnet_zoo.benchmarks.result import DataIdentity, ModelIdentity
from robnet_zoo.benchmarks.targets.probe import probed
from robnet_zoo.benchmarks.targets.target import Normalised, Target
from robnet_zoo.converters.onnx.classifier import OnnxClassifier
from robnet_zoo.converters.onnx.parting import Parting, RunnableGraph, graph_of_file, graph_of_network, part
from robnet_zoo.core.documents import Document, Tuple
from robnet_zoo.core.wording import counted
from robnet_zoo.data import Images
from robnet_zoo.data.images import check_fits
from robnet_zoo.errors import AttackError, DataError, ModelError, TargetError, UnsupportedError
from robnet_zoo.nn.network import Network

TOLERANCE = 1e-4  # of the largest logit: ten times what an export in fp32 is held to
BATCH = 64
LISTED = 10  # images that a text names


class Gap(Document):
    """How far two answers are apart.

    difference: the largest of all numbers, None if one of them is not finite where the other's is something else.
    largest: the largest number of the first target's answers. why_not: why nothing was compared.
    """

    difference: float | None = None
    largest: float = 0.0
    why_not: str = ""

    @property
    def share(self) -> float:
        """Return the difference as a share of the largest number; infinite if there is none."""
        if self.difference is None:
            return float("inf")
        return self.difference / self.largest if self.largest else float(self.difference > 0) * float("inf")

    def __str__(self) -> str:
        if self.why_not:
            return f"not compared: {self.why_not}"
        if self.difference is None:
            return "differ where one is not finite"
        if not self.difference:
            return f"are the same to the last bit, the largest {self.largest:.3g}"
        return f"differ by up to {self.difference:.2g}, {self.share:.2g} of the largest ({self.largest:.3g})"


class OtherAnswer(Document):
    """An image that two targets classify differently, its label, and the class from either."""

    sample: int
    label: int
    first: int
    second: int

    def __str__(self) -> str:
        return f"{self.sample} ({self.first} and {self.second}, label {self.label})"


class Likeness(Document):
    """How much alike two targets are on the same images.

    tolerance: up to which share of the largest logit (or of 1) a difference counts as none. logarithms: whether logits
    were compared as logarithms of probabilities, as where a file gives nothing else. gradients: of the cross-entropy by
    the image, of a file by its proposer. parting: where two graphs part, looked for with the image whose logits differ
    most. exported_from_other: whether one of them is a file that says that it was exported from the other, None if
    there is no file of ours beside a model in torch.
    """

    first: ModelIdentity
    second: ModelIdentity
    data: DataIdentity
    tolerance: float
    logits: Gap
    logarithms: bool = False
    gradients: Gap
    other_answers: Tuple[OtherAnswer] = ()
    parting: Parting | None = None
    why_no_parting: str = ""
    exported_from_other: bool | None = None

    @property
    def agreement(self) -> float:
        """Return the share of images that both classify alike."""
        return 1 - len(self.other_answers) / self.data.n

    @property
    def same(self) -> bool:
        """Return whether the logits agree within the tolerance."""
        return self.logits.difference is not None and (
            self.logits.difference <= self.tolerance * max(1.0, self.logits.largest)
        )

    def __str__(self) -> str:
        return "\n".join(f"{name:12}{text}" for name, text in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield "first", self.first.name
        yield "second", self.second.name
        yield "images", f"{self.data.name}, n = {self.data.n}"
        yield "logits", f"{self.logits}" + (", as logarithms of probabilities" if self.logarithms else "")
        yield "gradients", str(self.gradients)
        others = self.other_answers
        text = f"differ on {len(others)} of {counted(self.data.n, 'image')}" if others else "are the same"
        listed = "; ".join(map(str, others[:LISTED]))
        yield "predictions", text + (f": {listed}" if others else "") + ("; ..." if len(others) > LISTED else "")
        if self.parting is not None:
            yield "parting", "the first operators that only one of them has, behind values that both have:"
            for who, node in (("first", self.parting.first), ("second", self.parting.second)):
                yield "", f"of the {who}, " + (str(node) if node else "none: all its values are the other's too")
        elif self.why_no_parting:
            yield "parting", f"not known: {self.why_no_parting}"
        if self.exported_from_other is not None:
            claim = "exported from the other's weights" if self.exported_from_other else "exported from other weights"
            yield "metadata", f"the file says that it was {claim}"
        verdict = "the same function" if self.same else "not the same function"
        yield "so", f"{verdict}, within {self.tolerance:g} of the largest logit"


def compare_targets(
    first: Target, second: Target, images: Images, *, tolerance: float = TOLERANCE, look_inside: bool = True
) -> Likeness:
    """Compare two targets on images: logits, input gradients, predictions and, of two graphs, where they part.

    An ONNX file is a graph, and so is a model compiled from a spec, by its export. Gradients of a torch model are those
    of the model itself; load it with `dtype="float32"`, so that nothing else is loaded in vain.

    Args:
        first, second: what is compared.
        images: all of them are used.
        tolerance: up to which share of the largest logit (or of 1) a difference counts as none.
        look_inside: whether to look for where two graphs part.

    Raises: TargetError or DataError if the targets have other numbers of classes, or do not take the images.
    """
    if not (0 <= tolerance < float("inf")):
        raise TargetError(f"tolerance: expected a finite number from 0 on, got {tolerance}")
    if not len(images):
        raise DataError(f"{images.name}: expected images to compare on, got none")
    first, second = (_fitting(target, images) for target in (first, second))
    logarithms = any(_gives_probabilities(target) for target in (first, second))
    logits = [_logits(target, images, logarithms=logarithms) for target in (first, second)]
    classes = [each.shape[1] for each in logits]
    if classes[0] != classes[1]:
        expected = f"expected as many classes as {first.name} has, {classes[0]}"
        raise TargetError(f"{second.name}: {expected}, got {classes[1]}")
    apart = _apart(*logits)
    answers = [each.argmax(1).tolist() for each in logits]
    rows = zip(images.labels.tolist(), *answers, strict=True)
    likeness = Likeness(
        first=first.identity,
        second=second.identity,
        data=DataIdentity(name=images.name, sha256=images.sha256, n=len(images), classes=tuple(images.classes)),
        tolerance=tolerance,
        logits=_gap(apart, logits[0]),
        logarithms=logarithms,
        gradients=_gradients(first, second, images),
        other_answers=tuple(
            OtherAnswer(sample=sample, label=label, first=mine, second=other)
            for sample, (label, mine, other) in enumerate(rows)
            if mine != other
        ),
        exported_from_other=_exported(first.identity, second.identity),
    )
    if likeness.same or not look_inside:
        return likeness
    sample = int(apart.flatten(1).amax(1).nan_to_num(nan=torch.inf).argmax())
    shown, _ = images.batch(slice(sample, sample + 1))
    try:
        parting = part(_graph(first, shown), _graph(second, shown), tolerance=tolerance)
    except (ModelError, UnsupportedError) as error:
        return likeness.model_copy(update={"why_no_parting": str(error)})
    if parting == Parting():
        why_not = f"no values differ when image {sample} is shown alone, and ONNX Runtime does not optimise the graph"
        return likeness.model_copy(update={"why_no_parting": why_not})
    return likeness.model_copy(update={"parting": parting})


def _fitting(target: Target, images: Images) -> Target:
    """Return a target that was looked at with a few images. Raises TargetError, DataError if they do not fit."""
    if target.input_size is not None and target.num_classes is not None:
        check_fits(images, input_size=target.input_size, num_classes=target.num_classes)
    return probed(target, images.batch(slice(4))[0])


def without_normalisation(target: Target) -> Classifier:
    """Return what judges, without the normalisation in front of it."""
    judge = target.judge
    return judge.classifier if isinstance(judge, Normalised) else judge


def _gives_probabilities(target: Target) -> bool:
    bare = without_normalisation(target)
    return isinstance(bare, OnnxClassifier) and bare.probabilities


@torch.no_grad()
def _logits(target: Target, images: Images, *, logarithms: bool) -> Tensor:
    """Return the logits, (N, K), in float64."""
    parts = [target.judge(part.to(target.device)).detach().cpu().double() for part, _ in images.batches(BATCH)]
    logits = torch.cat(parts)
    return logits.log_softmax(1) if logarithms else logits


def _gradients(first: Target, second: Target, images: Images) -> Gap:
    """Compare the gradients of the cross-entropy by the images."""
    for target in (first, second):
        if target.proposer is None:
            return Gap(why_not=f"{target.name} has none: {target.why_not}")
    gaps = []
    for shown, labels in images.batches(BATCH):
        try:
            gradients = [
                input_gradient(_differentiable(target), shown.to(target.device), labels.to(target.device))[0]
                for target in (first, second)
            ]
        except AttackError as error:
            return Gap(why_not=str(error))
        mine, other = (gradient.cpu().double() for gradient in gradients)
        gaps.append(_gap(_apart(mine, other), mine))
    largest = max(gap.largest for gap in gaps)
    differences = [gap.difference for gap in gaps if gap.difference is not None]
    return Gap(difference=max(differences) if len(differences) == len(gaps) else None, largest=largest)


def _differentiable(target: Target) -> Classifier:
    """Return the form whose gradients count: of a model in torch the model itself."""
    if target.identity.kind == "torch":
        return target.judge
    assert target.proposer is not None, "its absence was looked for"
    return target.proposer


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """Return how far the numbers of two tensors are apart; 0 where both are the same infinity, or NaN."""
    equal = (first == second) | (first.isnan() & second.isnan())
    return (first - second).abs().masked_fill(equal, 0)


def _gap(apart: Tensor, first: Tensor) -> Gap:
    difference = float(apart.max())  # NaN if there is one
    finite = first[first.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return Gap(difference=difference if difference < float("inf") else None, largest=largest)


def _exported(first: ModelIdentity, second: ModelIdentity) -> bool | None:
    """Return whether one names the other's weights as those it was exported from; None if neither names any."""
    for file, model in ((first, second), (second, first)):
        if file.exported_from is not None and model.kind == "torch":
            return file.exported_from == model.state_sha256
    return None


def _graph(target: Target, image: Tensor) -> RunnableGraph:
    """Return a target as a graph that is shown an image (1, C, H, W). Raises UnsupportedError, ModelError."""
    judge, bare = target.judge, without_normalisation(target)
    if isinstance(judge, Normalised):
        image = (image.to(judge.mean) - judge.mean) / judge.std
    if isinstance(bare, OnnxClassifier):
        return graph_of_file(bare, image)
    if isinstance(bare, Network):
        return graph_of_network(bare, image)
    raise UnsupportedError(f"{target.name} is not a graph; ONNX files are, and models compiled from a spec")
