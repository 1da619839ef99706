"""A file is written whole or not at all, and its hash is that of its bytes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from robnet_zoo.core.files import file_sha256, write_atomically


def test_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "document.json"
    write_atomically(path, b"old")

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_reader_sees_one_whole_file_or_the_other_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    versions = (b"a" * 200_000, b"b" * 100_000)
    write_atomically(path, versions[0])
    writer = threading.Thread(target=lambda: [write_atomically(path, versions[i % 2]) for i in range(20)])
    writer.start()
    while writer.is_alive():
        assert path.read_bytes() in versions
    writer.join()


def test_written_file_has_the_permissions_of_an_ordinary_one(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_bytes(b"")
    write_atomically(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_of_a_link_the_file_that_it_leads_to_is_written_and_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path, link = tmp_path / "real" / "spec.json", tmp_path / "link.json"
    path.write_bytes(b"old")
    path.chmod(0o600)
    link.symlink_to(path)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["spec.json"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"text")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"text"


def test_a_folder_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=f"'{tmp_path}'"):
        write_atomically(tmp_path, b"")
    assert not list(tmp_path.iterdir())


def test_a_pipe_is_written_into_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_atomically, args=(pipe, b"new"))
    writer.start()
    assert pipe.read_bytes() == b"new"
    writer.join()
    assert pipe.is_fifo()


def test_hash_of_a_file_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
