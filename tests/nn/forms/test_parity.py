"""Whether a form is the function that it stands for."""

import pytest
import torch

from robnet_zoo.nn.forms.parity import differences, seen

IMAGES = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
TRUE = seen(lambda x: x.flatten(1) @ WEIGHTS, IMAGES)


def test_gradients_are_those_of_a_weighted_sum_of_the_logits():
    logits, gradients = TRUE
    torch.testing.assert_close(logits, IMAGES.flatten(1) @ WEIGHTS)
    expected = WEIGHTS @ torch.linspace(1, 2, 5).cos()
    torch.testing.assert_close(gradients, expected.reshape(1, 1, 2, 2).expand(3, 1, 2, 2))


@pytest.mark.parametrize(
    "function", [lambda x: torch.ones(3, 5), lambda x: torch.ones(3, 5, requires_grad=True) + x.detach().sum()]
)
def test_logits_that_do_not_depend_on_the_images_have_no_gradients(function):
    assert seen(function, IMAGES)[1] is None


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (TRUE, ""),
        ((TRUE[0] * 1.05, TRUE[1]), ""),
        ((TRUE[0] * 1.2, TRUE[1]), "its logits of 3 of 3 images are 0.2 of the model's own size away"),
        ((TRUE[0], TRUE[1] * 0), "its gradients of 3 of 3 images are 1 of the model's own size away"),
        ((TRUE[0], TRUE[1] * torch.tensor([1, 1, torch.nan])[:, None, None, None]), "its gradients of 1 of 3 images"),
        ((TRUE[0][:, :4], TRUE[1]), "its logits are (3, 4) instead of (3, 5)"),
        ((TRUE[0], None), "it has no gradients"),
    ],
)
def test_differences_are_told_in_words(own, told):
    assert differences(own, TRUE, allowed=(0.1, 0.1)).startswith(told)
    assert bool(differences(own, TRUE, allowed=(0.1, 0.1))) == bool(told)


def test_gradients_where_there_are_none_are_told():
    assert differences(TRUE, (TRUE[0], None), allowed=(0.1, 0.1)) == "it has gradients where the model has none"


def test_an_image_whose_true_answer_is_not_finite_is_passed_over():
    strange = TRUE[0].clone()
    strange[1] = torch.nan
    assert differences((TRUE[0], TRUE[1]), (strange, TRUE[1]), allowed=(0.1, 0.1)) == ""
