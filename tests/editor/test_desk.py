"""What an editor begins with, and the only file that it writes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from robnet_zoo.editor.desk import Desk, digest, open_desk
from robnet_zoo.editor.draft import Draft, blank
from robnet_zoo.errors import DocumentError, EditorError, RobnetZooError
from robnet_zoo.genotype.genotype import Genotype


@pytest.fixture
def file(tiny, tmp_path) -> Path:
    tiny.save(tmp_path / "mine.json")
    return tmp_path / "mine.json"


def test_a_path_is_what_is_edited_and_what_is_written(file, tiny):
    desk = open_desk(str(file))
    draft, seen = desk.begin()
    assert (draft.spec(), desk.file) == (tiny, file)
    assert seen == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_path_that_is_not_there_yet_begins_empty_under_its_name(tmp_path):
    desk = open_desk(str(tmp_path / "my new-cell.json"))
    assert desk.begin() == (blank("my_new_cell"), None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["robnet_micro", "advrush"])
def test_a_published_name_is_begun_with_and_written_nowhere(name):
    desk = open_desk(name)
    assert desk.begin()[0].name == name
    with pytest.raises(EditorError, match="download the spec instead"):
        desk.save(desk.start, seen=None)


def test_the_spec_of_a_training_run_stays_as_it_is_and_its_weights_are_a_model(tiny, tmp_path):
    tiny.save_into(tmp_path)
    (tmp_path / "model.safetensors").touch()
    desk = open_desk(str(tmp_path))
    assert (desk.file, desk.models) == (None, (str(tmp_path),))


def test_a_wrong_spec_whose_shape_is_right_can_be_mended(tiny, tmp_path):
    wrong = tiny.model_dump_json().replace('"input_size":[3,32,32]', '"input_size":[3,30,32]')
    (tmp_path / "wrong.json").write_text(wrong)
    assert open_desk(str(tmp_path / "wrong.json")).begin()[0].network.input_size == (3, 30, 32)


@pytest.mark.parametrize(
    ("spec", "output", "message"),
    [
        ("robnet_fre", None, "did you mean 'robnet_free'"),
        ("model.onnx", None, "use --target model.onnx"),
        (None, "mine.txt", "ends in .json, got 'mine.txt'"),
        ("a\0b.json", None, "cannot be read"),
        ("folder.json", None, "expected a file, got something else"),
        ("list.json", None, "expected an object"),
    ],
)
def test_what_cannot_be_edited_is_refused(tmp_path, monkeypatch, spec, output, message):
    monkeypatch.chdir(tmp_path)
    Path("folder.json").mkdir()
    Path("list.json").write_text("[]")
    with pytest.raises(RobnetZooError, match=message):
        open_desk(spec, output=output and Path(output))


def test_saving_writes_the_spec_and_returns_what_the_file_holds(tiny, tmp_path):
    desk = Desk(Draft.of_spec(tiny), tmp_path / "new.json")
    assert desk.save(desk.start, seen=None) == {"saved": True, "seen": digest(tmp_path / "new.json")}
    assert Genotype.load(tmp_path / "new.json") == tiny


def test_a_file_that_changed_since_is_not_overwritten_until_that_is_wanted(file, tiny):
    desk = open_desk(str(file))
    _, seen = desk.begin()
    others = tiny.scaled(width=2)
    others.save(file)
    mine = Draft.of_spec(tiny.scaled(width=3))
    answer = desk.save(mine, seen=seen)
    assert not answer["saved"]
    assert Genotype.load(file) == others
    assert desk.save(mine, seen=answer["seen"])["saved"]
    assert Genotype.load(file) == mine.spec()


def test_saving_the_same_twice_is_no_conflict(file):
    desk = open_desk(str(file))
    draft = desk.begin()[0]
    assert desk.save(draft, seen=None)["saved"]


def test_a_draft_that_does_not_compile_is_not_written(file):
    before = file.read_bytes()
    with pytest.raises(DocumentError, match="expected one or more operations, got zeros alone"):
        open_desk(str(file)).save(blank(), seen=digest(file))
    assert file.read_bytes() == before


def test_a_new_page_shows_what_the_file_holds_now(file, tiny):
    desk = open_desk(str(file))
    tiny.scaled(width=2).save(file)
    assert desk.begin()[0].network.channels == 4
    file.write_text("no longer JSON")
    assert desk.begin() == (desk.start, None)


def test_a_folder_that_cannot_be_written_is_an_error_of_a_line(tiny, tmp_path):
    (tmp_path / "taken").touch()
    desk = Desk(Draft.of_spec(tiny), tmp_path / "taken" / "mine.json")
    with pytest.raises(EditorError, match=r"cannot be (written|read)"):
        desk.save(desk.start, seen=None)
