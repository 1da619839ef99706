"""Flags that override a document field by field."""

import json

import pytest

from tests.command import run


def test_flags_of_a_part_that_may_be_none_leave_its_other_fields_as_they_are(tmp_path, spec_file, scans, capsys):
    guarded = {"name": "guarded", "epochs": 1, "batch": 32, "attack": {"steps": 1}, "validation": 16}
    guarded["guard"] = {"updates": 7, "images": 12, "share": 0.25}
    (tmp_path / "guarded.json").write_text(json.dumps(guarded))
    out = tmp_path / "run"
    common = ["--data", str(scans), "--output", str(out), "--recipe", str(tmp_path / "guarded.json")]
    run(capsys, "train", str(spec_file), *common, "--guard.images", "8")
    guard = json.loads((out / "run.json").read_text())["recipe"]["guard"]
    assert guard == {"updates": 7, "images": 8, "steps": 10, "share": 0.25}


@pytest.mark.parametrize(
    ("flags", "sizes"),
    [
        (["--stages", "[]"], []),
        (["--stages", '[{"size": 4, "epochs": 1}]'], [4]),
        (["--stages", '{"size": 4, "epochs": 1}', "--stages", '{"size": 8, "epochs": 1}'], [4, 8]),
    ],
)
def test_a_list_is_overridden_item_by_item_or_whole(tmp_path, spec_file, scans, capsys, flags, sizes):
    staged = {"name": "staged", "epochs": 2, "batch": 50, "attack": {"steps": 0}, "validation": 0}
    (tmp_path / "staged.json").write_text(json.dumps(staged | {"stages": [{"size": 8, "epochs": 2}]}))
    out = tmp_path / "run"
    common = ["--data", str(scans), "--output", str(out), "--recipe", str(tmp_path / "staged.json")]
    run(capsys, "train", str(spec_file), *common, *flags)
    stages = json.loads((out / "run.json").read_text())["recipe"]["stages"]
    assert [stage["size"] for stage in stages] == sizes
