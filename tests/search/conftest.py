"""A real PostgreSQL server, where its programs are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class Server:
    """A temporary cluster that listens on a socket in its own folder; run by postgres, as it refuses to be root."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self.user = "postgres" if os.geteuid() == 0 else None
        self.databases = 0
        if self.user:
            shutil.chown(folder, self.user)
        self._run("initdb", "-D", f"{folder}/data", "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments],
            user=self.user,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off"
        log = f"{self.folder}/log"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def database(self) -> str:
        """Return the URL of a new, empty database."""
        self.databases += 1
        name = f"search{self.databases}"
        self._run("createdb", "-h", str(self.folder), "-U", "postgres", name)
        return self.url(name)


def programs() -> Path | None:
    """Return the folder of initdb and related programs: on the PATH, or where Debian keeps it."""
    path = shutil.which("initdb")
    folders = [Path(path).resolve().parent] if path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "pg_ctl").exists()), None)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    pytest.importorskip("psycopg")
    folder = programs()
    if folder is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PostgreSQL's initdb is not installed, and CI must not skip it")
        pytest.skip("PostgreSQL's initdb is neither on the PATH nor below /usr/lib/postgresql")
    with tempfile.TemporaryDirectory(prefix="robnet-zoo-") as name:  # short, as the path of a socket must be
        started = Server(folder, Path(name))
        try:
            yield started
        finally:
            started.stop()
            time.sleep(0.1)


@pytest.fixture(params=["sqlite", "postgresql", "journal"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the location of a storage, of each kind in turn."""
    places: dict[str, Callable[[], str]] = {
        "sqlite": lambda: str(tmp_path / "study.db"),
        "journal": lambda: f"journal:{tmp_path}/study.journal",
        "postgresql": lambda: request.getfixturevalue("server").database(),
    }
    return places[request.param]()
