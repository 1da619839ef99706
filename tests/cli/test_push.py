"""`robnet-zoo push`."""

from __future__ import annotations

import json

import safetensors.torch

from robnet_zoo.nn.compiler import compile
from tests.command import fails, run


def test_a_dry_run_says_what_would_be_sent_and_keeps_it(capsys, spec_file, tiny, tmp_path) -> None:
    weights, kept = tmp_path / "tiny.safetensors", tmp_path / "kept"
    safetensors.torch.save_file(compile(tiny).state_dict(), weights)
    command = ["push", spec_file, "me/tiny", "--weights", weights, "--dry-run"]
    assert run(capsys, *command, "-o", kept).startswith("me/tiny: README.md, config.json, model.safetensors, spec.json")
    report = json.loads(run(capsys, *command, "--json"))
    assert report["files"] == {file.name: file.stat().st_size for file in kept.iterdir()}
    assert "expected no folder or an empty one" in fails(capsys, *command, "-o", kept)
