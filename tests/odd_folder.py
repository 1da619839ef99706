"""A folder as users have them: right files of every kind beside damaged, foreign and hostile ones."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from robnet_zoo.benchmarks.result import Result
from robnet_zoo.converters import to_original_json
from robnet_zoo.converters.onnx import to_onnx
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.nn.compiler import compile
from robnet_zoo.search import StudyResult
from tests.small_plan import made_result

RESULTS = Path(__file__).parents[1] / "robnet_zoo" / "benchmarks" / "results"
SIGN = "executed"  # a file that the hostile pickle would leave
UNDECODABLE = os.fsdecode(b"caf\xe9.json")


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path(SIGN),)


def fill(folder: Path, spec: Genotype) -> None:
    """Fill a folder with files of every kind; those of models are of this spec."""
    spec.save(folder / "tiny.json")
    torch.manual_seed(0)
    network = compile(spec).eval()
    safetensors.torch.save_file(network.state_dict(), folder / "tiny.safetensors")
    model = to_onnx(network).SerializeToString()
    (folder / "model.onnx").write_bytes(model)
    (folder / "run").mkdir()
    spec.save(folder / "run" / "spec.json")
    shutil.copy(folder / "tiny.safetensors", folder / "run" / "model.safetensors")
    draw = np.random.default_rng(0)
    labels = np.arange(60) % 10
    for name, channels in (("images.npz", 3), ("grey.npz", 1)):
        pixels = draw.integers(0, 256, (60, 32, 32, channels), dtype=np.uint8)
        np.savez(folder / name, images=pixels, labels=labels)
    np.savez(folder / "empty.npz", images=np.empty((0, 32, 32, 3), np.uint8), labels=labels[:0])
    np.savez(folder / "objects.npz", images=np.array([Hostile()]), labels=labels)
    for label in ("cat", "dog"):
        (folder / "pictures" / label).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
                folder / "pictures" / label / f"{index}.png"
            )
    Result.load(RESULTS / "robustness" / "robnet_free.fast_cifar10.autoattack.json").save(folder / "result.json")
    study = json.loads((RESULTS / "search" / "small.cell_free.json").read_bytes())
    StudyResult.parse(study | {"candidates": study["candidates"][:20]}).save(folder / "study.json")
    made_result().save(folder / "table.json")
    (folder / "codes.json").write_text(json.dumps(to_original_json(load_spec("robnet_small"))))
    _odd(folder)


def _odd(folder: Path) -> None:
    for name in ("tiny.json", "result.json", "tiny.safetensors", "model.onnx", "images.npz"):
        whole = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(whole[: len(whole) * 2 // 3])
    for suffix in ("", ".json", ".npz", ".onnx", ".safetensors", ".pth"):
        (folder / f"nothing{suffix}").touch()
    (folder / "list.json").write_text("[]")
    (folder / "other.json").write_text('{"name": "left-pad", "version": "1.0.0"}')
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "latin.json").write_bytes('{"name": "é"}'.encode("latin-1"))
    (folder / "numbers.json").write_text('{"schema_version": 1e999, "name": NaN}')
    for name in ("hostile.pth", "hostile.onnx", "hostile.safetensors", "hostile.json", "hostile.npz"):
        (folder / name).write_bytes(pickle.dumps(Hostile()))
    buffer = io.BytesIO()
    torch.save({"state_dict": Hostile()}, buffer)
    (folder / "hostile_zip.pth").write_bytes(buffer.getvalue())
    torch.save({"state_dict": {"x": torch.ones(1)}}, folder / "foreign.pth")
    for name in ("empty", "digits", "folder.json", "folder.onnx", "folder.npz", "folder.html"):
        (folder / name).mkdir()
    shutil.copy(folder / "tiny.json", folder / UNDECODABLE)
    shutil.copy(folder / "tiny.json", folder / "two\nlines.json")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pictures" / "cat" / "pipe.png")
    shutil.copy(folder / "tiny.json", folder / "unreadable.json")
    (folder / "unreadable.json").chmod(0)


def paths() -> list[str]:
    """Return the paths that `fill` gives, each as a user would write it."""
    return [
        *("tiny.json", "tiny.safetensors", "model.onnx", "run", "images.npz", "grey.npz", "empty.npz", "objects.npz"),
        *("pictures", "result.json", "study.json", "table.json", "codes.json", "cut_tiny.json", "cut_result.json"),
        *("cut_tiny.safetensors", "cut_model.onnx", "cut_images.npz", "nothing", "nothing.json", "nothing.npz"),
        *("nothing.onnx", "nothing.safetensors", "nothing.pth", "list.json", "other.json", "deep.json", "latin.json"),
        *("numbers.json", "hostile.pth", "hostile.onnx", "hostile.safetensors", "hostile.json", "hostile.npz"),
        *("hostile_zip.pth", "foreign.pth", "empty", "digits", "folder.json", "folder.onnx", "folder.npz"),
        *("folder.html", UNDECODABLE, "two\nlines.json", "dangling", "loop", "unreadable.json"),
        *("nowhere.json", "no/where.json", "tiny.json/below", ".", "..", "/", "run/", "./tiny.json", "pictures/cat"),
        *("local-dir:run", "local-dir:empty", "local-dir:nowhere", "pictures-16:pictures", "pictures-0:pictures"),
        *("cifar10-train:empty", "cifar10-test:nowhere", "svhn-test:empty", "tiny-imagenet-val:empty"),
        *("hf-hub:a/b", "hf-hub:", "robustbench:", "robustbench:Wong2020Fast", "imagenet-val:empty"),
    ]
