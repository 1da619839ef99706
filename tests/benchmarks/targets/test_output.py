"""What of a module's output counts as logits, and what is refused."""

from __future__ import annotations

import re
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from robnet_zoo.benchmarks.targets.output import Logits
from robnet_zoo.errors import TargetError

IMAGES = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
LOGITS, WIDE, AUXILIARY = IMAGES.mean((2, 3)), torch.zeros(4, 8), torch.ones(4, 3)
Named = namedtuple("Named", ["auxiliary", "logits"])


@dataclass
class Answer:
    hidden: Tensor
    logits: Tensor


class Slotted:
    __slots__ = ("logits",)

    def __init__(self, logits):
        self.logits = logits


class Giving(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output


def choice(output, num_classes=None):
    return Logits(Giving(output), name="m", num_classes=num_classes).choice(IMAGES)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (LOGITS, ""),
        (LOGITS[:, :, None, None], "its output, (4, 3, 1, 1), counts as logits without the last axes"),
        (LOGITS[:, :, None], "its output, (4, 3, 1), counts as logits without the last axes"),
        ((LOGITS, AUXILIARY), "of its output, tuple(0 (4, 3), 1 (4, 3)), `0` counts as logits"),
        ([None, LOGITS], "of its output, list(0 NoneType, 1 (4, 3)), `1` counts as logits"),
        (Named(AUXILIARY, LOGITS), "of its output, Named(auxiliary (4, 3), logits (4, 3)), `logits` counts as logits"),
        (
            {"aux": AUXILIARY, "logits": LOGITS},
            "of its output, dict(aux (4, 3), logits (4, 3)), `logits` counts as logits",
        ),
        (
            OrderedDict(out=LOGITS, loss=torch.ones(())),
            "of its output, OrderedDict(out (4, 3), loss ()), `out` counts as logits",
        ),
        (Slotted(LOGITS), "of its output, Slotted(logits (4, 3)), `logits` counts as logits"),
        (Answer(WIDE, LOGITS), "of its output, Answer(hidden (4, 8), logits (4, 3)), `logits` counts as logits"),
    ],
)
def test_what_is_unambiguous_is_taken_and_named(output, words):
    taken = choice(output)
    assert torch.equal(taken.logits, LOGITS)
    assert taken.words == words


def test_the_number_of_classes_tells_logits_from_features():
    assert choice((WIDE, LOGITS), num_classes=3).words.endswith("`1` counts as logits")
    assert torch.equal(choice({"features": WIDE, "answer": LOGITS}, num_classes=3).logits, LOGITS)
    assert torch.equal(choice((LOGITS, WIDE), num_classes=7).logits, LOGITS)  # of which nothing has 7


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (LOGITS[:, 0], "(4,)"),
        (LOGITS[:, :1], "(4, 1)"),
        (LOGITS[:2], "(2, 3)"),
        (LOGITS[:, :, None, None].expand(4, 3, 2, 2), "(4, 3, 2, 2)"),
        (LOGITS.argmax(1)[:, None].expand(4, 3), "int64 (4, 3)"),
        ((LOGITS[:, 0], None), "tuple(0 (4,), 1 NoneType)"),
        ({"a": LOGITS, "b": AUXILIARY}, "dict(a (4, 3), b (4, 3))"),
        ("text", "str"),
        (None, "NoneType"),
        ((), "tuple"),
    ],
)
def test_the_rest_is_refused_with_its_shape(output, got):
    with pytest.raises(
        TargetError, match=rf"^m: expected logits \(N, K\) with K of 2 or more.*, got {re.escape(got)}$"
    ):
        choice(output)


def test_images_stay_as_they_are_where_a_module_writes_into_its_input():
    class Writing(nn.Module):
        def forward(self, x):
            return x.sub_(0.5).mul_(2).mean((2, 3))

    images = IMAGES.clone().requires_grad_()
    logits = Logits(Writing(), name="m", num_classes=None)(images)
    assert torch.equal(images, IMAGES)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    torch.testing.assert_close(gradient, torch.full_like(images, 2 / 25))


def test_a_module_that_raises_an_error_of_its_own_with_more_images_is_named():
    class OfFour(nn.Module):
        def forward(self, x):
            return x.reshape(4, 3, 25).mean(2)

    logits = Logits(OfFour(), name="m", num_classes=None)
    assert torch.equal(logits(IMAGES), LOGITS)
    with pytest.raises(
        TargetError, match=r"^m: expected a model of images \(3, 5, 5\), got: .*invalid for input.* \(8 at"
    ):
        logits(torch.cat([IMAGES, IMAGES]))
