"""The whole line in a few minutes, offline: load a model through timm, attack it, export it, check the export, report.

The images are scikit-learn's handwritten digits, real scans that the model was not trained on.
"""

from __future__ import annotations

import base64
import html
import io
import os
import time
from pathlib import Path

import timm
import torch
from torch import Tensor

from robnet_zoo import attacks, data
from robnet_zoo.benchmarks.protocol import WHITE_BOX, Result
from robnet_zoo.benchmarks.robustness import evaluate
from robnet_zoo.blueprint import multiply_adds, parameters
from robnet_zoo.compiler import for_inference
from robnet_zoo.converters import onnx
from robnet_zoo.documents import write_atomically
from robnet_zoo.draw import draw_cell
from robnet_zoo.network import Network

MODEL = "robnet_micro.digits"
EPS = "16/255"
PICTURES = 8


def demo(output: str | os.PathLike[str]) -> Path:
    """Run the demo into a folder: results.json, model.onnx, cell.svg and report.html, whose path it returns."""
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    print(f"1/4  loading {MODEL} through timm")
    model = timm.create_model(MODEL, pretrained=True).eval()
    assert isinstance(model, Network)
    _, images = data.digits()
    print(f"2/4  attacking it on {len(images)} handwritten digits at eps {EPS}")
    protocol = WHITE_BOX.model_copy(update={"eps": EPS})
    result = evaluate(model, images, protocol, name=MODEL)
    result.save(folder / "results.json")
    print("3/4  exporting it to ONNX and running the file in ONNX Runtime")
    difference = onnx.export(model, folder / "model.onnx")
    agreement = _agreement(model, folder / "model.onnx", images)
    print("4/4  writing the report")
    draw_cell(model.spec, model.spec.layout[0], folder / "cell.svg")
    pictures = _pictures(model, images, result)
    seconds = time.perf_counter() - started
    page = _page(model, result, pictures, difference, agreement, seconds)
    write_atomically(folder / "report.html", page.encode())
    for measurement in result.measurements:
        print(f"     {measurement.attack:6} {measurement.accuracy:7.1%} of {result.data.n} right")
    return folder / "report.html"


def _agreement(model: Network, file: Path, images: data.Images) -> float:
    """Share of images to which the exported file and torch give the same class."""
    same = 0
    with torch.no_grad():
        for batch, _ in images.batches(100):
            same += int((onnx.run(file, batch).argmax(1) == model(batch).argmax(1)).sum())
    return same / len(images)


def _pictures(model: Network, images: data.Images, result: Result) -> str:
    """Clean digits, what PGD adds (enlarged to the whole range), and what the model sees, as an inline PNG.

    The first digits that PGD fooled in `result` stand left, the first that it did not fool right.
    """
    from matplotlib.figure import Figure

    protocol, correct = result.protocol, torch.tensor(result.measurements[-1].correct, dtype=torch.bool)
    fooled = (~correct).nonzero()[: PICTURES // 2, 0]
    chosen = torch.cat([fooled, correct.nonzero()[: PICTURES - len(fooled), 0]])
    clean, labels = images.batch(chosen)
    adversarial = attacks.pgd(
        for_inference(model),
        clean,
        labels,
        eps=protocol.eps_value,
        step=protocol.attacks[-1].step_value,
        steps=protocol.attacks[-1].steps,
        generator=torch.Generator().manual_seed(protocol.seed),
        until_fooled=True,
    )
    with torch.no_grad():
        before, after = model(clean).argmax(1), model(adversarial).argmax(1)
    change = (adversarial - clean) / (2 * protocol.eps_value) + 0.5
    figure = Figure(figsize=(PICTURES * 1.2, 4), layout="constrained")
    rows: list[tuple[Tensor, Tensor | None, str]] = [
        (clean, before, "clean"),
        (change, None, "change"),
        (adversarial, after, "attacked"),
    ]
    for axes_row, (pictures, classes, title) in zip(figure.subplots(len(rows), PICTURES), rows, strict=True):
        for index, axes in enumerate(axes_row):
            axes.imshow(pictures[index].permute(1, 2, 0).clamp(0, 1))
            axes.set(xticks=[], yticks=[])
            if classes is not None:
                right = classes[index] == labels[index]
                axes.set_title(f"{classes[index]}", color="#2f855a" if right else "#c53030", fontsize=11)
        axes_row[0].set_ylabel(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()


def _page(model: Network, result: Result, pictures: str, difference: float, agreement: float, seconds: float) -> str:
    spec = model.spec
    total = result.data.n
    rows = "".join(
        f"<tr><td>{html.escape(m.attack)}</td><td>{m.accuracy:.1%}</td><td>{sum(m.correct)} of {total}</td></tr>"
        for m in result.measurements
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{MODEL}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse }} td, th {{ padding: .2rem 1rem .2rem 0; text-align: left }}
img {{ max-width: 100%; background: white }}
</style>
<h1>{MODEL}</h1>
<p>{parameters(spec):,} parameters, {multiply_adds(spec) / 1e6:.1f} M multiply-adds, spec
<code>{spec.hash[:12]}</code>, weights <code>{result.model.weights_sha256[:12]}</code>.
Measured on {html.escape(result.data.name)} (n = {total}, seed {result.protocol.seed}), attacks in the
l-infinity ball of radius {result.protocol.eps}, on {html.escape(result.device)}.</p>
<table><tr><th>attack</th><th>accuracy</th><th></th></tr>{rows}</table>
<p>Above each picture stands the class that the model gives, red where it is wrong; the middle row is the attack's
change, enlarged. Left are digits that the attack fooled it on, right others.</p>
<img alt="clean digits, the attack's change, and the attacked digits" src="data:image/png;base64,{pictures}">
<h2>ONNX</h2>
<p><code>model.onnx</code> gives torch's logits within {difference:.1e} and the same class on {agreement:.1%} of the
images. <code>cell.svg</code> shows the cell, <code>results.json</code> every image's outcome.
All of this took {seconds:.0f} s.</p>
</html>
"""
