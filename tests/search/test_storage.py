"""Storages: each kind opens, and anything else is refused in one line and left alone."""

from __future__ import annotations

import re
import sqlite3
import sys
import warnings
from pathlib import Path

import optuna
import pytest

from robnet_zoo.errors import SearchError
from robnet_zoo.search import storage
from robnet_zoo.search.storage import open_storage
from robnet_zoo.search.study import Study, work
from tests.search.conftest import Server
from tests.search.crew import candidate_set, judged


def refused(where: str) -> str:
    with pytest.raises(SearchError) as caught:
        open_storage(where)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("mysql://root@localhost/a", r"mysql://: expected a path, sqlite:///PATH, .*"),
        ("postgres+psycopg://localhost/a", r"postgres\+psycopg://: expected .*, did you mean 'postgresql\+psycopg'\?"),
        ("postgresql://localhost:port/a", r"postgresql://\.\.\.: expected a path, .*"),
        ("sqlite://", r"sqlite://: expected the path of a file that workers share"),
        ("sqlite:///:memory:", r":memory:: expected the path of a file that workers share"),
        (
            "postgresql://me:secret@localhost:1/a",
            r"postgresql\+psycopg://me:\*\*\*@localhost:1/a: connection .*refused.*",
        ),
        ("postgresql://me@/a?host=/nowhere", r"postgresql\+psycopg://.*: connection .* No such file or directory.*"),
        ("journal:", r"journal: expected a path, .*"),
    ],
)
def test_what_is_not_a_storage_is_refused(where: str, reason: str) -> None:
    pytest.importorskip("psycopg")
    assert re.fullmatch(reason, refused(where))


def test_a_database_that_the_server_lacks_is_named(server: Server) -> None:
    assert 'database "absent" does not exist' in refused(server.url("absent"))


def test_a_missing_driver_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert refused("postgresql://localhost/a").endswith("; pip install 'robnet-zoo[postgresql]'")


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "journal:{}"])
def test_a_file_of_another_kind_is_refused_and_left_alone(form: str, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    for content in (b"\x89PNG and no end of line", b"[1, 2]\n", b"text\n" * 1000):
        file.write_bytes(content)
        assert str(file) in refused(form.format(file))
        assert file.read_bytes() == content


@pytest.mark.parametrize("form", ["{}", "journal:{}"])
def test_a_folder_is_refused(form: str, tmp_path: Path) -> None:
    assert str(tmp_path) in refused(form.format(tmp_path))


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE visits (page TEXT)")
    connection.close()
    before = file.read_bytes()
    assert refused(str(file)) == f"{file}: expected a study, got a database with the table visits"
    assert file.read_bytes() == before


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "journal:{}"])
def test_folders_are_made_and_any_name_will_do(form: str, tmp_path: Path) -> None:
    name = "a b{c}100%#" + ("" if form.startswith("sqlite") else "?x")  # which begins the options of a URL
    file = tmp_path / "new" / name
    Study.open(form.format(file), candidate_set(1)).close()
    assert file.stat().st_size > 0


def test_a_relative_path_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for where in ("runs/a.db", "sqlite:///runs/b.db", "journal:runs/c"):
        Study.open(where, candidate_set(1)).close()
    assert {file.name for file in (tmp_path / "runs").iterdir()} == {"a.db", "b.db", "c"}


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_the_line_that_a_killed_writer_left_half_written_is_dropped(cut: int, tmp_path: Path) -> None:
    file = tmp_path / "study.journal"
    with Study.open(f"journal:{file}", candidate_set(4)) as study:
        claim = study.claim()
        assert claim is not None
        claim.finish(judged(claim))
    file.write_bytes(file.read_bytes()[:-cut])
    with Study.open(f"journal:{file}", candidate_set(4)) as study:
        for trial in study._trials():  # the process that claimed it is this one, so it still lives
            if not trial.state.is_finished():
                study._close(trial.number, optuna.trial.TrialState.FAIL)
        work(study, judged)
    with Study.open(f"journal:{file}", candidate_set(4)) as study:
        assert [each.index for each in study.candidates()] == list(range(4))


def test_the_lock_that_a_killed_writer_left_behind_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "ABANDONED", 3)
    (tmp_path / "study.journal.lock").touch()
    with Study.open(f"journal:{tmp_path}/study.journal", candidate_set(1)) as study:
        assert study.counts().total == 1


def test_nothing_is_printed_and_nothing_is_warned_of(
    where: str, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    warnings.simplefilter("always")
    with Study.open(where, candidate_set(2)) as study:
        work(study, judged)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
