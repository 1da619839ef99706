"""Losses, by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from robnet_zoo.attacks.losses import LOSSES, cross_entropy, dlr, margin

LOGITS = torch.tensor([[4.0, 1.0, 3.0, -2.0], [-4.0, -1.0, -3.0, -2.0]])
LABELS = torch.tensor([0, 2])
NONE = torch.tensor([-1, -1])
TARGETS = torch.tensor([1, 0])


def test_margin_is_the_largest_other_logit_minus_the_labels():
    assert margin(LOGITS, LABELS, NONE).tolist() == [3 - 4, -1 - -3]


def test_margin_towards_a_target_is_the_targets_logit_minus_the_largest_other():
    assert margin(LOGITS, LABELS, TARGETS).tolist() == [1 - 4, -4 - -1]


def test_margin_where_all_other_logits_are_negative_is_not_taken_for_zero():
    logits = torch.tensor([[-1.0, -5.0, -9.0]])
    assert margin(logits, torch.tensor([0]), NONE[:1]).tolist() == [-4]


def test_cross_entropy_is_torchs_and_towards_a_target_its_negative():
    torch.testing.assert_close(cross_entropy(LOGITS, LABELS, NONE), F.cross_entropy(LOGITS, LABELS, reduction="none"))
    torch.testing.assert_close(
        cross_entropy(LOGITS, LABELS, TARGETS), -F.cross_entropy(LOGITS, TARGETS, reduction="none")
    )


def test_dlr_is_equation_6():
    # sorted: 4 3 1 -2 and -1 -2 -3 -4
    torch.testing.assert_close(dlr(LOGITS, LABELS, NONE), torch.tensor([(3 - 4) / (4 - 1), (-1 - -3) / (-1 - -3)]))


def test_dlr_towards_a_target_is_equation_7():
    expected = torch.tensor([(1 - 4) / (4 - (1 - 2) / 2), (-4 - -3) / (-1 - (-3 - 4) / 2)])
    torch.testing.assert_close(dlr(LOGITS, LABELS, TARGETS), expected)


def test_rows_with_a_target_and_without_one_may_stand_side_by_side():
    for loss in LOSSES.values():
        both = loss(LOGITS, LABELS, torch.tensor([-1, 0]))
        assert both[0] == loss(LOGITS, LABELS, NONE)[0]
        assert both[1] == loss(LOGITS, LABELS, TARGETS)[1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100), st.floats(-50, 50))
def test_dlr_does_not_change_when_logits_are_scaled_and_shifted(seed, scale, shift):
    logits = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(5)
    for targets in (torch.full((5,), -1), torch.full((5,), 5)):
        torch.testing.assert_close(dlr(scale * logits + shift, labels, targets), dlr(logits, labels, targets))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_margin_is_positive_exactly_where_the_answer_is_wrong_or_with_a_target_right(seed):
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(seed))
    labels, targets = torch.arange(50) % 4, (torch.arange(50) + 1) % 4
    answers = logits.argmax(1)
    assert torch.equal(margin(logits, labels, torch.full((50,), -1)) > 0, answers != labels)
    assert torch.equal(margin(logits, labels, targets) > 0, answers == targets)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("targets", [NONE, TARGETS], ids=["untargeted", "targeted"])
def test_one_value_a_row_and_rows_do_not_look_at_each_other(loss, targets):
    logits = LOGITS.clone().requires_grad_()
    values = loss(logits, LABELS, targets)
    assert values.shape == (2,)
    (gradient,) = torch.autograd.grad(values[0], logits)
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0
