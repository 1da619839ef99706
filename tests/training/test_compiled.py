"""Training through torch.compile: the same run, each network traced once."""

from functools import partialmethod

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from robnet_zoo import training
from robnet_zoo.errors import TrainingError
from robnet_zoo.training import TrainingAttack
from tests.training.runs import changed


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_a_compiled_run_learns_the_same_from_as_many_graphs_as_it_needs(
    tiny, images, recipe, tmp_path, monkeypatch, statistics
):
    """All is traced, and nothing more than once. The backend computes as torch does, and takes seconds, not minutes."""
    attack = TrainingAttack(kind="n_fgsm", steps=1, step="8/255", statistics=statistics)
    shallow = tiny.network.model_copy(update={"depth": 1, "reductions": ()})
    one_cell = tiny.model_copy(update={"layout": ("cell",), "network": shallow})
    recipe = changed(recipe, epochs=2, attack=attack, validation=0)
    plain = training.train(one_cell, images, recipe, tmp_path / "plain", progress=False)
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    torch.compiler.reset()
    counters.clear()
    traced = training.train(one_cell, images, changed(recipe, compile=True), tmp_path / "traced", progress=False)
    assert counters["stats"]["unique_graphs"] == 2  # the attack's and the loss's
    assert not counters["graph_break"]
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(traced.state_dict()[key], value, rtol=1e-3, atol=1e-4)


def test_sub_networks_are_not_compiled(tiny, images, recipe, tmp_path):
    with pytest.raises(TrainingError, match="compile: expected false for sub-networks"):
        training.train(tiny, images, changed(recipe, compile=True), tmp_path, paths=object(), progress=False)
