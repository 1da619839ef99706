"""Pictures in a results document show what an attack did."""

import torch

from robnet_zoo import data
from robnet_zoo.attacks import Pgd
from robnet_zoo.benchmarks.evaluation import evaluate
from robnet_zoo.benchmarks.targets.load import load_target
from tests.benchmarks.grey_images import SHORT


def test_examples_are_pictures_that_the_attack_fooled_the_model_on(fitted):
    import base64
    import io

    import numpy as np
    from PIL import Image

    target, images = load_target(fitted), data.load("digits")
    result = evaluate(
        target, images, SHORT.model_copy(update={"eps": "16/255", "attacks": (Pgd(steps=20),)}), progress=False
    )
    measured = result.measurement("pgd20")
    assert result.examples
    for example in result.examples:
        clean, adversarial = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in (example.clean, example.adversarial)
        )
        assert (clean == images.pixels[example.sample].permute(1, 2, 0).numpy()).all()
        assert 0 < np.abs(adversarial.astype(int) - clean).max() <= 16
        assert example.label == example.before == int(images.labels[example.sample])
        assert not measured.correct[example.sample]
        pixels = torch.from_numpy(adversarial.copy()).permute(2, 0, 1)[None].float() / 255
        assert example.after == int(target.judge(pixels).argmax())


def test_pixels_are_rounded_to_the_nearest_not_cut_off():
    from robnet_zoo.benchmarks.examples import rounded

    values = torch.tensor([0.0, 99.4 / 255, 99.6 / 255, 254.9 / 255, 1.0])
    assert (rounded(values) * 255).round().tolist() == [0, 99, 100, 255, 255]
