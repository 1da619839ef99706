"""The folder of a run and the run that it holds."""

import pytest

from robnet_zoo.errors import TrainingError
from robnet_zoo.training.claim import check_claim, check_folder, write_claim
from robnet_zoo.training.recipe import load_recipe

FAST = load_recipe("fast")


def identity(**changes):
    return {"spec": "s", "recipe": FAST.model_dump(mode="json"), "data": "d"} | changes


def test_a_folder_holds_the_run_that_was_written_into_it(tmp_path):
    assert not check_claim(tmp_path, identity())
    write_claim(tmp_path, identity())
    assert check_claim(tmp_path, identity())
    check_folder(tmp_path, FAST)


def test_a_message_says_which_of_what_tells_runs_apart_differs(tmp_path):
    write_claim(tmp_path, identity())
    with pytest.raises(TrainingError, match="that of a run with another data; take another --output"):
        check_claim(tmp_path, identity(data="e"))
    with pytest.raises(TrainingError, match="another architecture and another weights to begin with; take"):
        check_claim(tmp_path, identity(spec="t", weights="w"))
    longer = FAST.model_copy(update={"epochs": 30})
    with pytest.raises(TrainingError, match=rf"another recipe \(.*epochs {FAST.epochs} there, 30 here"):
        check_folder(tmp_path, longer)


@pytest.mark.parametrize("name", ["README.md", "model.safetensors"])
def test_files_of_others_that_a_run_would_overwrite_are_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(TrainingError, match=f"another's {name}, which the run would overwrite; take another --output"):
        check_claim(tmp_path, identity())


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "run"):
        with pytest.raises(TrainingError, match=rf"{folder}: expected a folder for the run, got a file at {file}"):
            check_folder(folder, FAST)
