"""Checkpoints: when they are written, how many stay, and what happens when one cannot be."""

import errno

import pytest
import torch

from robnet_zoo.core import documents
from robnet_zoo.errors import TrainingError
from robnet_zoo.training import Keeping, checkpoints
from robnet_zoo.training.checkpoints import Checkpoints


def test_the_newest_ones_stay_and_the_newest_is_loaded(tmp_path):
    kept = Checkpoints(tmp_path, Keeping(count=3))
    for updates in range(12):
        kept.save(updates, {"updates": updates})
    assert [int(path.stem) for path in kept.files()] == [9, 10, 11]
    loaded = []
    assert kept.load_newest(loaded.append)
    assert loaded == [{"updates": 11}]


def test_an_empty_folder_has_none(tmp_path):
    assert not Checkpoints(tmp_path / "none", Keeping()).load_newest(lambda state: None)


def test_one_is_due_by_updates_and_by_time(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    kept = Checkpoints(tmp_path, Keeping(seconds=60, updates=10), saved_at=now)
    steps = [(8, 9), (9, 10), (10, 11), (8, 12), (12, 16)]
    assert [kept.due(*step) for step in steps] == [False, True, False, True, False]
    now += 60
    assert kept.due(10, 11)
    kept.save(11, {})
    assert not kept.due(11, 12)


def test_a_full_disk_is_one_line_and_leaves_the_one_before(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path, Keeping(count=1))
    kept.save(1, {"updates": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(documents.os, "fsync", full)
    with pytest.raises(TrainingError, match=r"02\.pt: cannot be written; the checkpoint before it is intact: .*space"):
        kept.save(2, {"updates": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["0000000001.pt"]
    assert torch.load(tmp_path / "0000000001.pt", weights_only=True) == {"updates": 1}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 but no archive", b"\x80\x04cposix\nsystem\n(S'true'\ntR."])
def test_a_damaged_one_is_one_line_that_names_the_one_before(tmp_path, content):
    kept = Checkpoints(tmp_path, Keeping())
    kept.save(1, {"updates": 1})
    (tmp_path / "0000000002.pt").write_bytes(content)
    with pytest.raises(
        TrainingError, match=r"02\.pt: expected a checkpoint.*delete it to resume from 0000000001\.pt: .+"
    ):
        kept.load_newest(lambda state: None)


@pytest.mark.parametrize("keeping", [{"count": 0}, {"seconds": -1.0}, {"updates": 0}])
def test_keeping_that_makes_no_sense_is_refused(keeping):
    with pytest.raises(TrainingError, match="expected seconds >= 0, updates >= 1 and a count >= 1"):
        Keeping(**keeping)


def test_a_damaged_one_without_one_before_is_not_to_be_deleted(tmp_path):
    (tmp_path / "0000000002.pt").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"02\.pt: expected a checkpoint.*damaged, there is none before it: .+"):
        Checkpoints(tmp_path, Keeping()).load_newest(lambda state: None)


def test_one_that_cannot_be_read_or_is_of_another_network_is_not_to_be_deleted(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path, Keeping())
    kept.save(1, {"weight": torch.zeros(2)})
    with pytest.raises(TrainingError, match=r"01\.pt: expected a checkpoint of this run: .*size mismatch") as error:
        kept.load_newest(torch.nn.Linear(3, 1, bias=False).load_state_dict)
    assert "delete" not in str(error.value)

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoints.torch, "load", denied)
    with pytest.raises(TrainingError, match=r"01\.pt: cannot be read: .*Permission denied") as error:
        kept.load_newest(lambda state: None)
    assert "delete" not in str(error.value)


def test_a_good_one_that_a_run_cannot_go_on_from_is_not_to_be_deleted(tmp_path):
    kept = Checkpoints(tmp_path, Keeping())
    kept.save(1, {"updates": 1})

    def refuse(state):
        raise TrainingError("expected the 4 processes that free training began with, got 2")

    with pytest.raises(TrainingError, match=r"0000000001\.pt: expected the 4 processes") as error:
        kept.load_newest(refuse)
    assert "delete" not in str(error.value)
