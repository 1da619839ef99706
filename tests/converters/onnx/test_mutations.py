"""ONNX files that are damaged at random are refused in a line, or work."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.converters.onnx.mutations import TIMM, complaint, made, mutations

ROOT = Path(__file__).parents[3]
SEEDS = range(8)  # of damage to any of the files
SEEDS_OF_TIMM = range(4)  # of damage to those of timm's networks


@pytest.fixture(scope="module")
def models():
    return made()


def test_undamaged_files_are_taken(models, tmp_path):
    for name, model in models.items():
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        assert complaint(tmp_path / "m.onnx") is None, name


@pytest.mark.parametrize(
    ("chosen", "seed"), [*((None, seed) for seed in SEEDS), *((TIMM, seed) for seed in SEEDS_OF_TIMM)]
)
def test_damaged_file_is_refused_in_a_line_or_works(chosen, seed, models, tmp_path, capfd):
    ((_, _, content),) = mutations({name: models[name] for name in chosen or models}, 1, seed=seed)
    (tmp_path / "m.onnx").write_bytes(content)
    message = complaint(tmp_path / "m.onnx")
    assert message is None or message.isprintable()
    assert tuple(capfd.readouterr()) == ("", "")


@pytest.mark.slow  # a thousand files
@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")
def test_none_of_a_thousand_damaged_files_gives_a_traceback_hangs_or_costs_memory():
    command = [sys.executable, "-m", "tests.converters.onnx.mutations", "1000", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert "WRONG" not in done.stdout
    assert done.stdout.endswith("end of 1000\n"), done.stdout[-1000:] + done.stderr[-1000:]
