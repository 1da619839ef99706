"""The traced form of any classifier: the same logits and gradients, or the classifier itself and the reason."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from robnet_zoo.nn.forms import traced
from robnet_zoo.nn.forms.traced import Traced

aten = torch.ops.aten
IMAGES = torch.rand(3, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TINY = {"num_classes": 7}
TIMM = {
    "vit_tiny_patch16_224": {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16), "patch_size": 1},
    "resnet18_cifar": {"width": 0.1, "depth": 0.5},
}


class Of(nn.Module):
    """A small network whose forward is a function of itself and the images."""

    def __init__(self, forward) -> None:
        super().__init__()
        self.function = forward
        self.conv, self.other = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 3, bias=False, padding=1)
        self.norm, self.last = nn.BatchNorm2d(6), nn.BatchNorm2d(6, affine=False)
        self.bare = nn.BatchNorm2d(6, track_running_stats=False)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(6, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        return self.head(self.function(self, x).mean((2, 3)))


def settled(model: nn.Module) -> nn.Module:
    """Return a model with statistics, as a target holds it."""
    model = model.double().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return model.eval().requires_grad_(False)


def seen(classifier, images=IMAGES):
    """Return the logits of images, and the gradient of a weighted sum of them."""
    x = images.clone().requires_grad_()
    logits = classifier(x)
    (gradient,) = torch.autograd.grad((logits * torch.linspace(1, 2, logits.shape[1]).to(logits).cos()).sum(), x)
    return logits.detach(), gradient


def operators(form: Traced) -> list:
    (graph,) = form.graphs.values()
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def assert_same(form: Traced, model: nn.Module) -> None:
    for own, true in zip(seen(form), seen(model), strict=True):
        torch.testing.assert_close(own, true, rtol=1e-9, atol=1e-9 * float(true.abs().max()))
    assert form.why_not == ""


@pytest.mark.parametrize("name", TIMM)
def test_a_model_of_timm_has_the_same_logits_and_gradients_in_float64(name):
    torch.manual_seed(0)
    model = settled(timm.create_model(name, **TIMM[name], **TINY))
    form = Traced(model)
    assert_same(form, model)
    kinds = operators(form)
    assert aten.batch_norm.default not in kinds
    assert aten.dropout.default not in kinds


def chained(self, x):
    return self.norm(self.conv(x)).relu() + self.last(self.other(x))


def norm_twice(self, x):
    return self.norm(self.conv(x)) * self.norm(self.other(x))


def weight_twice(self, x):
    return self.norm(self.conv(x)) - self.conv(x.flip(3))


def functional(self, x):
    x = F.conv2d(x, self.conv.weight * 2, self.conv.bias, padding=1)
    return F.batch_norm(x, self.norm.running_mean, self.norm.running_var, eps=0.1)


def drawn_apart(self, x):
    weight = self.other.weight - self.other.weight.mean((1, 2, 3), keepdim=True)
    return self.dropout(self.norm(F.conv2d(x, weight)))


def by_size(self, x):
    return self.norm(self.conv(x if x.shape[3] % 5 == 0 else F.pad(x, (0, 5 - x.shape[3] % 5))))


@pytest.mark.parametrize("function", [chained, norm_twice, weight_twice, functional, drawn_apart, by_size])
def test_every_batch_norm_that_alone_reads_a_convolution_is_folded(function):
    model = settled(Of(function))
    form = Traced(model)
    assert_same(form, model)
    assert not {aten.batch_norm.default, aten.dropout.default} & set(operators(form))


def output_twice(self, x):
    x = self.conv(x)
    return self.norm(x) + x


def without_statistics(self, x):
    return self.bare(self.conv(x))


def norm_first(self, x):
    return self.norm(self.conv(x).relu())


def training_in_eval(self, x):
    return F.batch_norm(self.conv(x), None, None, training=True)


@pytest.mark.parametrize("function", [output_twice, without_statistics, norm_first, training_in_eval])
def test_a_batch_norm_that_is_not_a_convolutions_alone_is_not_folded(function):
    model = settled(Of(function))
    form = Traced(model)
    assert_same(form, model)
    assert operators(form).count(aten.batch_norm.default) == 1


def two_convolutions(self, x):
    return self.conv(x).relu() + self.other(x)


def one_convolution(self, x):
    return self.conv(x)


def with_layer_norm(self, x):
    return F.layer_norm(two_convolutions(self, x), (16, 16))


@pytest.mark.parametrize(
    ("function", "last"),
    [(chained, True), (two_convolutions, True), (one_convolution, False), (with_layer_norm, False)],
)
def test_networks_of_convolutions_run_in_channels_last_layout(function, last):
    model = settled(Of(function))
    form = Traced(model)
    assert_same(form, model)
    assert (operators(form)[0] is aten.contiguous.default) == last


def test_what_does_not_depend_on_the_images_is_computed_once():
    model = settled(Of(drawn_apart))
    form = Traced(model)
    form(IMAGES)
    assert operators(form).count(aten.mean.dim) == 1  # of the pixels
    assert aten.sub.Tensor not in operators(form)


def test_hooks_are_part_of_the_function():
    model = settled(Of(chained))
    model.norm.register_forward_hook(lambda module, inputs, output: output * 2)
    model.conv.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 0.1,))
    assert_same(Traced(model), model)


def test_a_tensor_that_is_made_in_the_forward_may_be_written_into():
    def padded(self, x):
        whole = torch.zeros(len(x), 3, 20, 20, dtype=x.dtype)
        whole[:, :, 2:18, 2:18] = x
        return self.norm(self.conv(whole))

    model = settled(Of(padded))
    assert_same(Traced(model), model)


def counting(self, x):
    self.calls += 1
    return self.conv(x)


def by_value(self, x):
    return self.conv(x) if x.mean() > 0.5 else self.other(x)


def by_number(self, x):
    return self.conv(x) * x.max().item()


def random(self, x):
    return self.conv(x + torch.rand_like(x))


class Calls:
    number = 0


def by_count(self, x):
    Calls.number += 1
    return self.conv(x) * Calls.number


def by_numpy(self, x):
    return self.conv(x + (torch.from_numpy(x.detach().numpy().round(1)) - x).detach())


def by_list(self, x):
    return self.conv(x) * x.detach().mean((1, 2, 3)).tolist()[0]


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def straight_through(self, x):
    return self.conv(StraightThrough.apply(x))


class Blocked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, gradient):
        return None


class WithoutBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1


def without_backward(self, x):
    return self.conv(WithoutBackward.apply(x))


def strange_elsewhere(self, x):
    return self.conv(x) / (x.mean((1, 2, 3), keepdim=True) == IMAGES.to(x).mean((1, 2, 3), keepdim=True))


def blocked(self, x):
    return self.conv(Blocked.apply(x))


ELSEWHERE = "is of another function for images that it was not traced with:"
REASONS = {
    counting: "it changes its own buffers, by aten.add_.Tensor",
    by_value: "it cannot be traced: ",
    by_number: "it cannot be traced: ",
    random: "it draws random numbers, by aten.rand_like.default",
    by_count: "its graph gives logits that are ",
    by_numpy: f"its graph {ELSEWHERE} its logits of 3 of 3 images are ",
    by_list: f"its graph {ELSEWHERE} its logits of 3 of 3 images are ",
    straight_through: f"its graph {ELSEWHERE} its gradients of 3 of 3 images are ",
    blocked: f"its graph {ELSEWHERE} it has gradients where the model has none",
    without_backward: "its graph cannot be compared with it: ",
    strange_elsewhere: "its graph cannot be compared with it: it gives no finite logits of random images",
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("function", REASONS)
def test_a_module_whose_graph_would_not_be_its_function_is_used_itself_and_a_line_says_why(function, dtype):
    model = settled(Of(function)).to(torch.float64 if dtype == torch.float32 else torch.float32)
    form = Traced(model, dtype=dtype)
    assert form(IMAGES.to(model.head.weight)).shape == (3, 4)
    assert form.why_not.startswith(REASONS[function])
    assert form.why_not.isprintable()
    assert list(form.graphs.values()) == [None]


def test_a_graph_that_was_asked_for_without_gradients_is_checked_with_them():
    model = settled(Of(straight_through))
    form = Traced(model)
    with torch.inference_mode():
        form(IMAGES)
    assert "its gradients of 3 of 3 images" in form.why_not


def test_a_users_module_is_left_as_it_was():
    model = settled(Of(chained)).float()
    model.conv.weight.requires_grad_(True)
    before = copy.deepcopy(model.state_dict())
    Traced(model)(IMAGES.float())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.conv.weight.requires_grad
    assert model.conv.weight.grad is None
    assert not any(module.training for module in model.modules())
    assert model.conv.weight.is_contiguous()


def test_each_shape_gets_a_graph_up_to_a_number_and_they_share_what_was_folded(monkeypatch):
    monkeypatch.setattr(traced, "MOST_SHAPES", 2)
    model = settled(Of(chained))
    form = Traced(model)
    for count, graphs in ((3, 1), (2, 2), (1, 2)):
        torch.testing.assert_close(form(IMAGES[:count]), model(IMAGES[:count]), rtol=1e-9, atol=1e-9)
        assert len(form.graphs) == graphs
    assert len(form.folded) == 2
    for graph in form.graphs.values():
        held = {id(value) for value in graph.buffers()}
        assert all({id(weight), id(bias)} <= held for weight, bias, _ in form.folded.values())


def by_batch(self, x):
    return self.norm(self.conv(x.reshape(len(x), 3, 16, 16)))


@pytest.mark.parametrize(("function", "graphs"), [(chained, 1), (by_batch, 2)])
def test_a_graph_that_holds_no_size_of_a_batch_serves_all_of_them(function, graphs):
    model = settled(Of(function))
    form = Traced(model)
    for count in (3, 2):
        for own, true in zip(seen(form, IMAGES[:count]), seen(model, IMAGES[:count]), strict=True):
            torch.testing.assert_close(own, true, rtol=1e-9, atol=1e-9)
    assert len({id(graph) for graph in form.graphs.values()}) == graphs
    assert form.why_not == ""


def test_images_whose_logits_are_not_finite_do_not_count():
    model = settled(Of(chained))
    form = Traced(model)
    images = IMAGES.clone()
    images[0, 0, 0, 0] = torch.nan
    torch.testing.assert_close(form(images), model(images), equal_nan=True)
    assert form.why_not == ""


def test_in_bfloat16_all_but_the_head_is_rounded():
    model = settled(Of(chained)).float()
    form = Traced(model, dtype=torch.bfloat16)
    (logits, gradient), (true, true_gradient) = (seen(each, IMAGES.float()) for each in (form, model))
    assert form.why_not == ""
    assert logits.dtype == gradient.dtype == torch.float32
    assert 0 < (logits - true).abs().max() < 0.02 * true.abs().max()
    assert (gradient - true_gradient).norm() < 0.1 * true_gradient.norm()
    assert not torch.equal(logits, logits.bfloat16().float())
