"""`robnet-zoo demo`: the whole pipeline in a few minutes, offline.

The images are scikit-learn's handwritten digits, real scans that the model was not trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robnet_zoo.cli.parameters import Output, Quiet
from robnet_zoo.cli.starting import starting

if TYPE_CHECKING:
    from robnet_zoo.converters.onnx import OnnxClassifier
    from robnet_zoo.data import Images
    from robnet_zoo.nn.network import Network

MODEL = "robnet_micro.digits"
EPS = "16/255"


def demo(*, output: Output = Path("demo-report"), quiet: Quiet = False) -> None:
    """Load a bundled model, attack it on handwritten digits, export it to ONNX, and write a small report.

    Args:
        output: A folder for results.json, model.onnx, cell.svg and report.html.
    """
    with starting(shown=not quiet):
        from robnet_zoo import data
        from robnet_zoo.benchmarks.evaluation import evaluate
        from robnet_zoo.benchmarks.protocol import load_protocol
        from robnet_zoo.benchmarks.targets.load import load_target
        from robnet_zoo.converters.onnx import OnnxClassifier, export
        from robnet_zoo.genotype.draw import draw_cell
        from robnet_zoo.reports import robustness
        from robnet_zoo.zoo.registry import load_model

    def say(text: str) -> None:
        if not quiet:
            print(text)

    output.mkdir(parents=True, exist_ok=True)
    say(f"1/4  loading {MODEL} through timm")
    model = load_model(MODEL)
    draw_cell(model.spec, model.spec.layout[0], output / "cell.svg")
    images = data.load("digits")
    say(f"2/4  attacking it on {len(images)} handwritten digits at eps {EPS}")
    protocol = load_protocol("white_box").model_copy(update={"eps": EPS})
    result = evaluate(load_target(MODEL), images, protocol, progress=not quiet)
    result.save(output / "results.json")
    for measurement in result.measurements:
        say(f"     {measurement.attack:6} {measurement.accuracy:7.1%} of {result.data.n} right")
    say("3/4  exporting it to ONNX and running the file in ONNX Runtime")
    exported = export(model, output / "model.onnx", images=images)
    agreement = _agreement(model, OnnxClassifier(output / "model.onnx"), images)
    say(f"     logits within {exported.difference:.1e} of torch's, the same class on {agreement:.1%} of the images")
    say("4/4  writing the report")
    robustness.write([result], output / "report.html")
    say(str(output / "report.html"))


def _agreement(model: Network, exported: OnnxClassifier, images: Images) -> float:
    """Return the share of images to which the exported file and torch give the same class."""
    import torch

    same = 0
    with torch.no_grad():
        for batch, _ in images.batches(100):
            same += int((exported(batch).argmax(1) == model(batch).argmax(1)).sum())
    return same / len(images)
