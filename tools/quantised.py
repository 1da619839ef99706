"""Attack quantised files in each way to look at them: `python -m tools.quantised --help`.

A trained model is quantised by ONNX Runtime in each of its forms, and by our own export if it has one. Every file is
attacked straight through, through its float twin, and by Square, each alone. `tools.docs` makes the tables of
docs/onnx.md from the documents, one for each file and way in `results/robustness/looks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Literal

import onnx
import timm
import torch
from onnxruntime import quantization
from onnxruntime.quantization import QuantFormat, QuantType
from torch import Tensor

import robnet_zoo  # noqa: F401 - registers the models
from robnet_zoo import data
from robnet_zoo.attacks import Pgd, Square
from robnet_zoo.benchmarks import Protocol, evaluate, load_target
from robnet_zoo.converters.onnx import ExportOptions, export
from robnet_zoo.converters.onnx.quantize import CalibrationImages
from robnet_zoo.data import Images
from robnet_zoo.training import load_recipe, train
from robnet_zoo.zoo.architecture import TimmArchitecture
from tools import committed

CALIBRATION = 128  # the first training images
BATCH = 16  # of them at once
PGD = (Pgd(steps=20, step="2/255"), Pgd(steps=20, step="2/255", loss="margin"))
SQUARE = Square(queries=300)
RECIPE = {"epochs": 30, "validation": 100}  # of resnet18_cifar, in which the recipe micro_digits is changed
FORMS = ("qdq", "qoperator", "dynamic")
LOOKS = committed.ROBUSTNESS / "looks"


def protocols(eps: str, n: int) -> Iterator[Protocol]:
    """Yield a protocol for each way to look at a file, within eps of the first n images."""
    for look in ("straight_through", "twin"):
        yield Protocol(name=look, n=n, eps=eps, attacks=PGD, batch=50, dtype="float32", looks=(look,))
    yield Protocol(name="square", n=n, eps=eps, attacks=(SQUARE,), batch=50, dtype="float32")


def write_micro(training: Images) -> Path:
    """Write robnet_micro.cifar10 in float32, and in int8 as we export it; return the path of the former."""
    model = timm.create_model("robnet_micro.cifar10", pretrained=True)
    options = ExportOptions(precision="int8", calibration=CALIBRATION)
    export(model, "robnet_micro.ours.int8.onnx", options, images=training)
    export(model, "robnet_micro.fp32.onnx")
    return Path("robnet_micro.fp32.onnx")


def write_resnet(training: Images) -> Path:
    """Train resnet18_cifar with a quarter of its channels and half of its blocks, and write it as torch exports it."""
    architecture = TimmArchitecture(
        model="resnet18_cifar", num_classes=10, input_size=(3, 32, 32), width=0.25, depth=0.5
    )
    recipe = load_recipe("micro_digits").model_copy(update=RECIPE)
    model = train(architecture, training, recipe, "run", progress=False)
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, 32, 32),),
        "resnet18_cifar.fp32.onnx",
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=18,
        dynamo=False,
    )
    return Path("resnet18_cifar.fp32.onnx")


def quantised(source: Path, form: str, images: Images, *, per_channel: bool) -> Path:
    """Write a file in one of ONNX Runtime's forms and return its path, such as MODEL.FORM.channel.onnx.

    Args:
        source: MODEL.fp32.onnx, whose input is called `images`.
        form: of FORMS.
        images: what a static form is calibrated on.
        per_channel: whether each channel of the weights has a scale.
    """
    model = source.name.removesuffix(".fp32.onnx")
    path = source.with_name(f"{model}.{form}.{'channel' if per_channel else 'tensor'}.onnx")
    write_form(source, path, form, images.batch(slice(None))[0], per_channel=per_channel)
    return path


def write_form(
    source: Path, path: Path, form: str, images: Tensor, *, per_channel: bool, seven_bits: bool = True
) -> None:
    """Write a file in one of ONNX Runtime's forms.

    Args:
        source: the file in float32, whose input is called `images`.
        path: of the new file.
        form: of FORMS.
        images: what a static form is calibrated on, (N, C, H, W) in [0, 1].
        per_channel: whether each channel of the weights has a scale.
        seven_bits: whether the weights of a static form have seven bits, with which no sum saturates.
    """
    if form == "dynamic":
        quantization.quantize_dynamic(source, path, weight_type=QuantType.QUInt8, per_channel=per_channel)
        return
    quantization.quantize_static(
        onnx.shape_inference.infer_shapes(onnx.load(source)),
        path,
        CalibrationImages(images, BATCH),
        quant_format=QuantFormat.QDQ if form == "qdq" else QuantFormat.QOperator,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
        reduce_range=seven_bits,
    )


def main(model: Literal["robnet_micro", "resnet18_cifar"], *, cifar: Path, work: Path, n: int = 100) -> None:
    """Write the files of a model, and measure each in every way.

    Args:
        model: robnet_micro.cifar10 on CIFAR-10 or a small resnet18_cifar on scikit-learn's digits.
        cifar: A folder with cifar10_train.npz and cifar10_test1k.npz.
        work: A folder for the files; what was begun there is continued.
        n: How many test images.
    """
    if model == "robnet_micro":
        training = data.load(cifar / "cifar10_train.npz", train=True)[:CALIBRATION]
        test, eps, write = data.load(cifar / "cifar10_test1k.npz"), "8/255", write_micro
    else:
        training, test, eps, write = data.load("digits", train=True), data.load("digits"), "16/255", write_resnet
    work.mkdir(parents=True, exist_ok=True)
    with chdir(work):
        source = write(training)
        images = training[:CALIBRATION]
        files = [quantised(source, form, images, per_channel=wide) for form in FORMS for wide in (False, True)]
        for path in (source, *Path().glob(f"{model}.ours.*"), *files):
            for protocol in protocols(eps, n):
                if path == source and protocol.name == "twin":
                    continue  # a file in float32 has no other twin than itself
                output = LOOKS / f"{path.stem}.{protocol.name}.json"
                result = evaluate(load_target(path), test, protocol, output=output, progress=False)
                committed.without_pictures(result).save(output)
                print(
                    output.stem,
                    result.accuracy("clean"),
                    min(part.accuracy for part in result.measurements),
                    flush=True,
                )


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(main)
