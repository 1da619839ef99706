"""Images are normalised inside the target."""

from dataclasses import replace

import pytest
import torch

from robnet_zoo.attacks import Ddn, Pgd, Square
from robnet_zoo.benchmarks.checks.target import from_target
from robnet_zoo.benchmarks.targets.target import is_narrow
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.data import Images
from robnet_zoo.errors import RobnetZooError, TargetError
from robnet_zoo.nn.compiler import compile, for_inference
from robnet_zoo.nn.forms.cuda_graphs import Replayed
from robnet_zoo.nn.forms.traced import Traced
from robnet_zoo.zoo import load_spec
from tests.benchmarks.targets.models import MEAN, STD, Means


def test_normalisation_happens_inside_and_is_recorded():
    target = of_module(Means(), name="means", mean=MEAN, std=STD)
    images = torch.rand(4, 3, 5, 5)
    expected = (images.mean((2, 3)) - torch.tensor(MEAN)) / torch.tensor(STD)
    for classifier in (target.judge, target.proposer):
        torch.testing.assert_close(classifier(images), expected)
    assert (target.identity.mean, target.identity.std) == (MEAN, STD)


def test_images_of_other_channels_than_mean_and_std_are_refused():
    target = of_module(Means(), name="means", mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="expected images of 3 channels, as mean and std, got 1"):
        target.judge(torch.rand(4, 1, 5, 5))


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), ((0.5,), (0.5,)), ((0.5,), (0.5,) * 3), ((0.5,) * 3, [0.5])])
def test_a_single_number_is_for_all_channels(mean, std):
    target = of_module(Means(), name="means", mean=mean, std=std)
    images = torch.rand(4, 3, 5, 5)
    torch.testing.assert_close(target.judge(images), (images.mean((2, 3)) - 0.5) / 0.5)


def test_means_of_levels_are_refused_with_the_way_out():
    levels = [[255 * value for value in values] for values in (MEAN, STD)]
    with pytest.raises(TargetError, match=r"means: expected means of images in \[0, 1\], got .*divided by 255\?"):
        of_module(Means(), name="means", mean=levels[0], std=levels[1])


def test_grey_images_on_a_model_of_three_channels_are_refused_with_a_way_out():
    grey = Images(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4), "grey")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    for normalised in ({}, {"mean": MEAN, "std": STD}):
        target = of_module(model, name="colours", **normalised)
        with pytest.raises(RobnetZooError, match=r"np\.repeat\(images, 3, axis=3\)"):
            from_target(target, grey, seed=0)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (MEAN, None),
        (None, STD),
        (MEAN, STD[:2]),
        ((), ()),
        (MEAN, (1, 0, 1)),
        ((0, 0, float("nan")), STD),
        (("a",), STD),
    ],
)
def test_unusable_mean_and_std_are_refused(mean, std):
    with pytest.raises(TargetError, match=r"means: expected (mean and std, a number a channel|finite means)"):
        of_module(Means(), name="means", mean=mean, std=std)


def test_cuda_graphs_are_for_what_proposes_on_a_gpu():
    target = of_module(Means(), name="means")
    with pytest.raises(TargetError, match="means: expected a model on a CUDA device for CUDA graphs, got one on cpu"):
        target.with_cuda_graphs()
    graphed = replace(target, device=torch.device("cuda:0"), probed=True).with_cuda_graphs()  # nothing is captured yet
    assert isinstance(graphed.proposer, Replayed)
    assert graphed.proposer.classifier is target.proposer
    assert (graphed.judge, graphed.twin, graphed.probed) == (target.judge, None, False)


@pytest.mark.parametrize("model", [compile(load_spec("robnet_micro")).eval(), Means()], ids=["compiled", "traced"])
@pytest.mark.parametrize("replayed", [False, True], ids=["", "replayed"])
def test_a_protocol_in_float32_is_not_attacked_in_less(model, replayed, monkeypatch):
    monkeypatch.setattr("robnet_zoo.core.precision._processor_has_bfloat16", lambda: True)
    target = of_module(model, name="model")
    target = replace(target, proposer=Replayed(target.proposer) if replayed else target.proposer, probed=True)
    assert target.proposing_in("bfloat16") is target
    exact = target.proposing_in("float32")
    assert (is_narrow(target.proposer), is_narrow(exact.proposer), exact.probed) == (True, False, False)
    assert isinstance(exact.proposer, Replayed) == replayed
    assert exact.proposing_in("float32") is exact
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        form = exact.proposer.classifier if replayed else exact.proposer
        torch.testing.assert_close(form(images), target.judge(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["torch", "onnx"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", ["compiled", "traced"])
def test_attacks_that_follow_small_changes_look_at_a_form_that_keeps_them(kind, dtype, form):
    network = compile(load_spec("robnet_micro")).eval()
    proposer = Traced(network, dtype=dtype) if form == "traced" else for_inference(network, dtype=dtype)
    target = of_module(network, name="model")
    target = replace(target, identity=target.identity.model_copy(update={"kind": kind}), proposer=proposer)
    original = target.judge
    assert target.form_for(Pgd()) is proposer
    assert target.form_for(Square()) is (proposer if (kind, dtype) == ("torch", torch.float32) else original)
    assert target.form_for(Ddn()) is (original if (kind, dtype) == ("torch", torch.bfloat16) else proposer)
    assert replace(target, proposer=None).form_for(Square()) is original
