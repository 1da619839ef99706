"""The networks on which `strong` is measured beside AutoAttack."""

from types import SimpleNamespace

import pytest
import torch

from robnet_zoo.attacks.gradient import input_gradient
from tools import strengths


def test_rounded_pixels_hide_every_gradient_and_little_else():
    target = strengths.masked()
    images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
    gradient, _ = input_gradient(target.judge, images, labels)
    assert not gradient.any()
    near = images + 0.2 / (strengths.LEVELS - 1) * torch.sign(images - 0.5)
    levels = ((images * (strengths.LEVELS - 1)).round(), (near * (strengths.LEVELS - 1)).round())
    assert 0 < (levels[0] != levels[1]).float().mean() < 0.5
    exact = levels[0] / (strengths.LEVELS - 1)
    torch.testing.assert_close(target.judge(images), target.judge(exact))


@pytest.mark.parametrize("model", strengths.REDUCED)
def test_a_comparison_network_is_trained_at_a_quarter_of_its_width(model, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        strengths, "train", lambda architecture, _, recipe, folder: asked.append((architecture, recipe))
    )
    folders, target = [], strengths.masked()
    monkeypatch.setattr(strengths, "load_target", lambda folder: folders.append(folder) or target)
    monkeypatch.setattr(strengths.data, "load", lambda path, train: train)
    assert strengths.trained(model, tmp_path, tmp_path).identity.name == model
    assert folders == [tmp_path / model]
    ((architecture, recipe),) = asked
    assert (architecture.model, architecture.width) == (model, 0.25)
    assert (recipe.epochs, [stage.size for stage in recipe.stages]) == (8, [16, 24])


@pytest.mark.parametrize(("protocol", "folder"), [("strong_autoattack", "strong"), ("strong_parts", "strong/parts")])
def test_a_document_lies_where_the_tables_look_for_it(protocol, folder, tmp_path, monkeypatch):
    asked, written = [], []
    document = SimpleNamespace(save=written.append)
    monkeypatch.setattr(strengths.data, "load", lambda path: None)
    monkeypatch.setattr(
        strengths, "evaluate", lambda target, images, protocol, output: asked.append((protocol, output)) or document
    )
    monkeypatch.setattr(strengths.committed, "without_pictures", lambda result: result)
    strengths.main("masked", cifar=tmp_path, work=tmp_path, n=7, protocol=protocol)
    ((measured, output),) = asked
    assert (measured.name, measured.n) == (protocol, 7)
    assert written == [output] == [strengths.committed.ROBUSTNESS / folder / "masked.json"]
