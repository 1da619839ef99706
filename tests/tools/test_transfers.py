"""The networks between which attacks transfer."""

from types import SimpleNamespace

import pytest
import torch

from robnet_zoo.data import Images
from robnet_zoo.errors import DataError
from tools import transfers

N = 40  # of which the last four are held out
NAMES = {
    "robnet_micro.cifar10": ["resnet18_cifar", "vgg16_cifar", "robnet_free.cifar10"],
    "resnet18_cifar": ["robnet_micro.cifar10", "vgg16_cifar", "robnet_free.cifar10"],
    "vgg16_cifar": ["robnet_micro.cifar10", "resnet18_cifar", "robnet_free.cifar10"],
}


@pytest.fixture(autouse=True)
def no_networks(monkeypatch):
    training = Images(torch.zeros(N, 3, 2, 2, dtype=torch.uint8), torch.arange(N), "training")
    monkeypatch.setattr(transfers, "load_target", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(transfers, "trained", lambda model, cifar, work: SimpleNamespace(name=model))
    monkeypatch.setattr(transfers.data, "load", lambda path, train: training)


def test_each_source_is_judged_by_the_others_and_by_robnet_free_on_the_last_images(tmp_path, monkeypatch):
    asked, written = {}, []

    def evaluate(targets, source, images, protocol, *, outputs):
        asked[source.name] = [target.name for target in targets]
        assert protocol.name == "transfer_attacks"
        assert (images.labels.tolist(), images.name) == ([37, 38, 39], "the last 3 of training")
        return outputs

    bare = SimpleNamespace(save=lambda path: written.append(path.name))
    monkeypatch.setattr(transfers, "evaluate_transfer", evaluate)
    monkeypatch.setattr(transfers.committed, "without_pictures", lambda result: bare)
    transfers.main(cifar=tmp_path, work=tmp_path, n=3)
    assert asked == NAMES
    assert written == [f"{source}.to-{target}.json" for source, targets in NAMES.items() for target in targets]


@pytest.mark.parametrize("n", [0, 5])
def test_images_that_a_network_was_trained_on_are_refused(n, tmp_path):
    with pytest.raises(DataError, match=f"expected from 1 to 4 images, which are held out, got {n}"):
        transfers.main(cifar=tmp_path, work=tmp_path, n=n)
