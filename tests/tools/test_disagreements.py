"""Images on which `strong` and AutoAttack disagree are attacked again."""

from dataclasses import replace

import pytest
import torch

from robnet_zoo.attacks import Pgd, Square
from robnet_zoo.benchmarks import of_module
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import DataIdentity, ModelIdentity, Result, measured
from robnet_zoo.data import Images
from robnet_zoo.errors import ResultError
from tests.brightness import Brightness
from tools import disagreements

GREY = 124, 126, 120, 127  # of 255; of class 0, all but the third within 4/255 of class 1
RIGHT = {"pgd20": (0, 1, 1, 0), "square": (0, 1, 1, 0), "autoattack": (0, 0, 1, 1)}


@pytest.fixture
def images() -> Images:
    pixels = torch.tensor(GREY, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    return Images(pixels, torch.zeros(4, dtype=torch.long), "grey")


@pytest.fixture
def result(images) -> Result:
    protocol = {
        "name": "both",
        "eps": "4/255",
        "attacks": (Pgd(), Square(queries=50), {"kind": "autoattack", "version": "custom", "attacks": ["apgd-ce"]}),
        "in_turn": ("pgd20", "square"),
        "dtype": "float32",
    }
    return Result(
        protocol=Protocol(**protocol),
        model=ModelIdentity(name="brightness", state_sha256="0" * 64),
        data=DataIdentity(name="grey", sha256=images.sha256, n=4),
        software={},
        device="CPU",
        measurements=tuple(measured(name, right, seconds=1.0) for name, right in ({"clean": (1,) * 4} | RIGHT).items()),
    )


def test_images_are_missed_by_the_side_that_left_them_right(result):
    assert disagreements.missed(result) == [(1, "strong"), (3, "autoattack")]


def test_the_side_that_missed_images_attacks_them_again_with_every_seed(result, images):
    target = of_module(Brightness(), name="brightness")
    outcomes = disagreements.again(result, target, images, samples=[1, 2], side="strong", seeds=2)
    assert [(each.sample, each.missed_by, each.fooled) for each in outcomes] == [
        (1, "strong", (1, 1)),
        (2, "strong", (0, 0)),
    ]


def test_a_document_of_other_weights_is_refused(result, images, tmp_path, monkeypatch):
    target = of_module(Brightness(), name="brightness")
    monkeypatch.setattr(disagreements, "load_target", lambda name, dtype: target)
    monkeypatch.setattr(disagreements.data, "load", lambda name: images)
    result.save(tmp_path / "both.json")
    with pytest.raises(ResultError, match="expected its own weights and images, got brightness and grey"):
        disagreements.main(tmp_path / "both.json", images="grey", output=tmp_path / "seeds.json")
    own = replace(target, identity=result.model)
    monkeypatch.setattr(disagreements, "load_target", lambda name, dtype: own)
    pytest.importorskip("pyautoattack")
    disagreements.main(tmp_path / "both.json", images="grey", seeds=1, output=tmp_path / "seeds.json")
    written = disagreements.DisagreementsResult.load(tmp_path / "seeds.json")
    assert [(each.sample, each.missed_by, each.fooled) for each in written.images] == [
        (1, "strong", (1,)),
        (3, "autoattack", (1,)),
    ]
