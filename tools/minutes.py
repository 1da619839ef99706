"""Train, measure and report in minutes, on a machine that may vanish: `python -m tools.minutes --help`.

`split` cuts the training images into parts that an upload takes; `train` takes them together again. All that it leaves
is in one folder, and the same command goes on where it was interrupted.
"""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import cyclopts
import numpy as np
import torch

from robnet_zoo import cli, data
from robnet_zoo.core.files import write_atomically
from robnet_zoo.errors import DataError

MEBIBYTE = 2**20
ROOM = 2**16  # bytes that a part has beside images and labels, at most
GRAPHED = 256  # images that are measured once more, by CUDA graphs
app = cyclopts.App(help=__doc__)


@app.command
def split(images: Path, folder: Path, *, mebibytes: int = 32) -> None:
    """Cut an npz of images into parts.

    Args:
        images: The npz.
        folder: Of the parts, 1of4.npz and so on.
        mebibytes: How large a part may be.
    """
    whole = data.load(str(images), train=True)
    pixels, labels = whole.pixels[:].permute(0, 2, 3, 1).numpy(), whole.labels.numpy()
    each = (pixels.nbytes + labels.nbytes) / len(labels)
    most = int((mebibytes * MEBIBYTE - ROOM) / each)
    if most < 1:
        raise DataError(f"mebibytes: expected parts that can hold an image, got {mebibytes}")
    count = math.ceil(len(labels) / most)
    folder.mkdir(parents=True, exist_ok=True)
    if others := [path.name for path in folder.iterdir()]:
        raise DataError(f"{folder}: expected an empty folder, got {others[0]} there")
    for number, part in enumerate(np.array_split(np.arange(len(labels)), count), start=1):
        _write(folder / f"{number}of{count}.npz", pixels[part], labels[part])


@app.command
def train(
    model: str,
    *,
    data: Path,
    test: str,
    output: Path,
    minutes: float = 8,
    recipe: str = "gpu_minutes",
    protocol: str = "white_box",
    images: int | None = None,
    compile: bool = False,
) -> None:
    """Train for some minutes, measure on test images, on a GPU a few of them again by CUDA graphs, and write a report.

    Args:
        model: The name of a bundled spec, or a spec.
        data: A folder of the parts that `split` made, or an npz of training images.
        test: Test images, as `robnet-zoo benchmark --data` takes them.
        output: A folder for all that comes of it.
        minutes: Of the training.
        recipe: Its epochs are changed so that they fit into the minutes.
        protocol: How the weights are measured.
        images: The number of test images, if it is not the protocol's.
        compile: Train through torch.compile. What it takes to trace the network counts as training.
    """
    output.mkdir(parents=True, exist_ok=True)
    training = ["--data", str(_joined(data, output / "train.npz")), "--recipe", recipe, "--minutes", str(minutes)]
    training += ["--checkpoint-seconds", "60", *(["--compile"] if compile else [])]
    cli.main(["train", model, "--output", str(output / "run"), *training])
    measuring = ["benchmark", str(output / "run"), "--data", test, "--protocol", protocol]
    count = ["-n", str(images)] if images else []
    cli.main([*measuring, *count, "--output", str(output / f"{protocol}.json")])
    cli.main(["report", str(output / f"{protocol}.json"), "--output", str(output / "report.html")])
    if torch.cuda.is_available():  # whether graphs are worth their name
        few = ["-n", str(GRAPHED), "--cuda-graphs"]
        cli.main([*measuring, *few, "--output", str(output / f"{protocol}.graphs.json")])


def _joined(source: Path, path: Path) -> Path:
    """Return an npz of all parts of a folder, written to `path`; a file is returned itself."""
    if source.is_file():
        return source
    parts = {part.name: part for part in source.glob("*.npz")}
    counts = {int(match[1]) for name in parts if (match := re.fullmatch(r"\d+of(\d+)\.npz", name))}
    if len(counts) != 1:
        raise DataError(f"{source}: expected an npz of images, or a folder of its parts")
    (count,) = counts
    names = [f"{number}of{count}.npz" for number in range(1, count + 1)]
    if set(names) != set(parts):
        wrong = sorted(set(names) ^ set(parts))[0]
        raise DataError(f"{source}: expected {names[0]} to {names[-1]}, got {len(parts)} parts: look for {wrong}")
    loaded = [np.load(parts[name], allow_pickle=False) for name in names]
    _write(path, *(np.concatenate([part[name] for part in loaded]) for name in ("images", "labels")))
    return path


def _write(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, images=images, labels=labels)
    write_atomically(path, buffer.getvalue())


if __name__ == "__main__":
    app()
