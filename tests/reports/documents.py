"""Results documents for reports, made up, and what they hold."""

from __future__ import annotations

import base64
import hashlib
import io
import random

import numpy as np
from PIL import Image

from robnet_zoo.attacks import AnyAttack, DeepFool, Fgsm, MiFgsm, Pgd
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import (
    Alarm,
    DataIdentity,
    Example,
    Measurement,
    ModelIdentity,
    Result,
    worst_case,
)
from robnet_zoo.core.statistics import wilson
from robnet_zoo.genotype.specs import load_spec

CIFAR = "cifar10_test.npz"


XSS = '<script>alert("x")</script>&|[a](javascript:b)'


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def identity(name: str, *, parameters: int | None = None, spec_hash: str | None = None) -> ModelIdentity:
    return ModelIdentity(name=name, state_sha256=sha(name), parameters=parameters, spec_hash=spec_hash)


def renamed(model: ModelIdentity, name: str) -> ModelIdentity:
    """The same architecture, trained anew."""
    return model.model_copy(update={"name": name, "state_sha256": sha(name)})


def measurement(attack: str, share: float, n: int, *, steps: int = 0, unconfirmed: int = 0) -> Measurement:
    """Outcomes of which about `share` are right; models differ in which."""
    draw = random.Random(f"{attack} {share} {n}")
    correct = tuple(int(draw.random() < share) for _ in range(n))
    return Measurement(
        attack=attack,
        accuracy=sum(correct) / n,
        interval=wilson(sum(correct), n),
        correct=correct,
        forwards=tuple(steps if right else 1 for right in correct),
        backwards=tuple(steps if right else 1 for right in correct),
        judged=(2,) * n,
        unconfirmed=(unconfirmed,) + (0,) * (n - 1),
        seconds=0.25 * n * max(steps, 1),
    )


def result(
    model: ModelIdentity | str,
    *shares: float,
    attacks: tuple[AnyAttack, ...] = (Fgsm(), Pgd()),
    source: ModelIdentity | None = None,
    n: int = 200,
    eps: str = "8/255",
    data: str = CIFAR,
    unconfirmed: int = 0,
    dtype: str = "bfloat16",
    **fields: object,
) -> Result:
    """A document whose first share is of clean images, the others of the attacks."""
    shares = shares or (0.8, *(0.5 - 0.02 * i for i in range(len(attacks))))
    clean = measurement("clean", shares[0], n)
    attacked = [
        measurement(attack.title, share, n, steps=getattr(attack, "steps", 1), unconfirmed=unconfirmed)
        for attack, share in zip(attacks, shares[1:], strict=True)
    ]
    measurements = (clean, *attacked)
    threat = "white_box" if source is None else "transfer"
    return Result(
        protocol=Protocol(name="paper", threat=threat, eps=eps, attacks=attacks, dtype=dtype),
        model=model if isinstance(model, ModelIdentity) else identity(model),
        source=source,
        data=DataIdentity(name=data, sha256=sha(data), n=fields.pop("of", n)),
        software={"torch": "2.14.1"},
        device="AMD EPYC, 2 threads",
        measurements=measurements,
        worst_case=worst_case(measurements),
        **fields,
    )


def in_turn(document: Result) -> Result:
    """The same outcomes, as if each attack had got only what those before it left."""
    titles = tuple(attack.title for attack in document.protocol.attacks)
    return document.model_copy(update={"protocol": document.protocol.model_copy(update={"in_turn": titles})})


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def example(sample: int = 7, attack: str = "pgd20") -> Example:
    clean = np.random.default_rng(sample).integers(20, 230, (32, 32, 3)).astype(np.uint8)
    shift = np.where(np.indices((32, 32)).sum(0) % 2, 8, -8)[:, :, None]
    images = {"clean": png(clean), "adversarial": png((clean + shift).astype(np.uint8))}
    return Example(sample=sample, attack=attack, label=3, before=3, after=5, **images)


def everything() -> list[Result]:
    """Documents that fill every section."""
    free = identity("robnet_free.cifar10", parameters=5_439_790, spec_hash=load_spec("robnet_free").hash)
    large = identity("robnet_large.cifar10", parameters=6_842_710, spec_hash=load_spec("robnet_large").hash)
    micro = identity("robnet_micro.cifar10", parameters=21_650, spec_hash=load_spec("robnet_micro").hash)
    resnet = identity("resnet18.cifar10", parameters=11_173_962)
    attacks = (Fgsm(), Pgd(), Pgd(steps=100), DeepFool(), MiFgsm())
    models = {free: 0.52, large: 0.47, micro: 0.30, resnet: 0.43}
    copies = {model: renamed(model, model.name.replace(".", ".copy.")) for model in models}
    transfer = (Fgsm(), Pgd(steps=100))
    alarm = Alarm(name="more_steps_less_success", text="pgd100: 34.0 %, pgd20: 30.0 %.")
    documents = [
        result(model, share + 0.3, *(share + 0.01 * i for i in (6, 1, 0, 5, 2)), attacks=attacks, n=1000)
        for model, share in models.items()
    ]
    documents[0] = documents[0].model_copy(update={"examples": tuple(map(example, range(5)))})
    documents[2] = documents[2].model_copy(update={"alarms": (alarm,)})
    documents += [result(free, 0.82, 0.75 - 0.02 * k, 0.72 - 0.03 * k, eps=f"{k}/255", n=1000) for k in (2, 4, 12, 16)]
    documents += [result(micro, 0.60, 0.55 - 0.02 * k, 0.52 - 0.03 * k, eps=f"{k}/255", n=1000) for k in (2, 4, 12)]
    documents += [
        result(target, a + 0.3, 0.62 + 0.02 * i, 0.60 + 0.02 * i - 0.01 * j, attacks=transfer, source=source, n=1000)
        for i, (target, a) in enumerate(models.items())
        for j, source in enumerate(copies.values())
    ]
    documents.append(result(large, n=120, of=1000, complete=False, unconfirmed=3))
    return documents


def many(count: int, *, n: int = 50) -> list[Result]:
    """Documents of as many models, all on the same images, that differ in size and accuracy."""
    attacks = (Fgsm(), Pgd(), Pgd(steps=100), DeepFool(), MiFgsm())
    return [
        result(
            identity(f"model_{i:03d}.cifar10", parameters=100_000 + 7919 * i),
            0.5 + 0.4 * i / count,
            *(0.3 + 0.3 * i / count - 0.01 * j for j in range(len(attacks))),
            attacks=attacks,
            n=n,
        )
        for i in range(count)
    ]
