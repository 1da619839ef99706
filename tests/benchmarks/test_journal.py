"""The journal of a long run: nothing is lost, nothing of another run is taken."""

import pytest

from robnet_zoo.benchmarks.journal import Journal
from robnet_zoo.errors import DocumentError


def test_entries_come_back_in_their_order(tmp_path):
    path = tmp_path / "run.journal"
    with Journal(path, "key") as journal:
        journal.add({"sample": 3, "margin": 0.1})
        journal.add({"sample": 1, "margin": None})
    with Journal(path, "key") as again:
        assert again.entries == [{"sample": 3, "margin": 0.1}, {"sample": 1, "margin": None}]


def test_an_entry_is_in_the_file_before_the_journal_is_closed(tmp_path):
    journal = Journal(tmp_path / "run.journal", "key")
    journal.add({"sample": 3})
    assert b'{"sample": 3}\n' in (tmp_path / "run.journal").read_bytes()
    journal.close(delete=False)


@pytest.mark.parametrize("cut", range(1, 15))
def test_a_line_that_was_cut_off_is_dropped_and_the_next_one_is_whole(tmp_path, cut):
    path = tmp_path / "run.journal"
    with Journal(path, "key") as journal:
        journal.add({"sample": 3})
        journal.add({"sample": 1})
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path, "key") as journal:
        assert journal.entries == [{"sample": 3}]
        journal.add({"sample": 7})
    with Journal(path, "key") as journal:
        assert journal.entries == [{"sample": 3}, {"sample": 7}]


def test_the_journal_of_another_run_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "run.journal"
    with Journal(path, "key") as journal:
        journal.add({"sample": 3})
    before = path.read_bytes()
    with pytest.raises(DocumentError, match=r"run.journal: expected the journal of this run, got that of another"):
        Journal(path, "another")
    assert path.read_bytes() == before


def test_a_run_that_is_over_leaves_no_journal(tmp_path):
    journal = Journal(tmp_path / "run.journal", "key")
    journal.close(delete=True)
    assert list(tmp_path.iterdir()) == []


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Journal(None, "key") as journal:
        journal.add({"sample": 3})
        assert journal.entries == [{"sample": 3}]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"no json\n", b"17\n"])
def test_a_damaged_line_is_named_and_nothing_is_thrown_away(tmp_path, damage):
    path = tmp_path / "run.journal"
    with Journal(path, "key") as journal:
        journal.add({"sample": 3})
    path.write_bytes(path.read_bytes() + damage + b'{"sample": 4}\n')
    before = path.read_bytes()
    with pytest.raises(DocumentError, match=r"run.journal: line 3: expected a JSON object"):
        Journal(path, "key")
    assert path.read_bytes() == before


def test_two_processes_do_not_share_a_journal(tmp_path):
    with (
        Journal(tmp_path / "run.journal", "key"),
        pytest.raises(DocumentError, match="expected no other process at this run, got one"),
    ):
        Journal(tmp_path / "run.journal", "key")


def test_a_journal_that_is_left_for_later_leaves_no_lock(tmp_path):
    with Journal(tmp_path / "run.journal", "key"):
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "run.journal"]
