"""Pictures of what an attack does, to lie in a results document."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from robnet_zoo import attacks
from robnet_zoo.attacks import IterativeAttack
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Example, Measurement
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.data import Images

EXAMPLES = 6


def examples(
    target: Target, images: Images, protocol: Protocol, samples: Sequence[int], measurements: Sequence[Measurement]
) -> tuple[Example, ...]:
    """Return the first images on which the last attack of a protocol fooled the target, attacked once more.

    Attacks of whole batches are passed over, and those that got only what others had left.

    Args:
        images: those of the protocol.
        samples: the images that the measurements describe.
        measurements: clean, then an attack each.
    """
    each = [attack for attack in protocol.attacks if isinstance(attack, IterativeAttack)]
    tried = [attack for attack in each if not protocol.before(attack.title)]
    if not tried:
        return ()
    attack = tried[-1]
    clean = measurements[0]
    attacked = next(measurement for measurement in measurements if measurement.attack == attack.title)
    outcomes = zip(samples, clean.correct, attacked.correct, strict=True)
    fooled = [sample for sample, before, after in outcomes if before and not after][:EXAMPLES]
    if not fooled:
        return ()
    pixels, labels = (tensor.to(target.device) for tensor in images.batch(torch.tensor(fooled)))
    attacked_again = attacks.run(
        attack,
        target.form_for(attack),
        pixels,
        labels,
        eps=protocol.eps_value,
        seed=protocol.seed,
        samples=fooled,
        slots=protocol.batch,
        judge=target.judge,
    )
    shown = rounded(torch.stack([outcome.image for outcome in attacked_again]))
    with torch.no_grad():
        before, after = target.judge(pixels).argmax(1).tolist(), target.judge(shown).argmax(1).tolist()
    return tuple(
        Example(
            sample=sample,
            attack=attack.title,
            label=int(labels[i]),
            before=before[i],
            after=after[i],
            clean=_png(pixels[i]),
            adversarial=_png(shown[i]),
        )
        for i, sample in enumerate(fooled)
    )


def rounded(images: Tensor) -> Tensor:
    """Return images in [0, 1] with every value rounded to the nearest of the 256 that a picture file holds."""
    return images.mul(255).round().div(255)


def _png(image: Tensor) -> str:
    from PIL import Image

    pixels = image.mul(255).round().byte().cpu().permute(1, 2, 0).numpy()  # (H, W, C)
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels)).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()
