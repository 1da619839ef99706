"""Where a search keeps its candidates: a SQLite file, a PostgreSQL server, or a journal on a shared file system."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from robnet_zoo.core.documents import nearest
from robnet_zoo.errors import SearchError

FORMS = "a path, sqlite:///PATH, postgresql://USER@HOST/DATABASE or journal:PATH"
SCHEMES = ("sqlite", "postgresql", "postgresql+psycopg", "postgres", "journal")
LOCKED = 120  # seconds that others may keep a SQLite file locked
CONNECT = 10  # seconds that a server may take to answer
ABANDONED = 30  # seconds after which a journal's lock counts as left behind by a killed writer
RACES = 10  # times that others may be creating the same tables
TABLES = {"studies", "trials", "version_info", "alembic_version"}  # some that Optuna creates
JOURNAL = b'{"op_code":'  # how every line of a journal begins


def open_storage(where: str) -> BaseStorage:
    """Optuna's storage at one of FORMS, created where there is none. Raises SearchError.

    Open it in the process that uses it: neither connections nor a journal's identity survive a fork.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of every trial otherwise
    scheme, _, rest = where.partition(":")
    if scheme == "journal":
        return _journal(rest)
    if "://" not in where:
        return _sqlite(where)
    if scheme not in SCHEMES:
        raise SearchError(f"{scheme}://: expected {FORMS}{nearest(scheme, SCHEMES)}")
    try:
        url = sqlalchemy.make_url(where)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise SearchError(f"{scheme}://...: expected {FORMS}: {one_line(error)}") from None
    if scheme == "sqlite":
        return _sqlite(url.database or "")
    return _postgresql(url.set(drivername="postgresql+psycopg"))


def _sqlite(name: str) -> RDBStorage:
    """A file. Its transactions take the write lock when they begin.

    Optuna reads a trial's state and then writes it; the sqlite3 module begins a transaction between the two, so that
    two processes could both finish one trial. SQLAlchemy documents this cure ("Serializable isolation / Savepoints /
    Transactional DDL" of its SQLite dialect).
    """
    if name in ("", ":memory:"):
        raise SearchError(f"{name or 'sqlite://'}: expected the path of a file that workers share")
    path = Path(name).absolute()
    _check_sqlite(path)
    url = sqlalchemy.URL.create("sqlite", database=str(path))
    storage = _created(url, name, {"connect_args": {"timeout": LOCKED}})

    def connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the module begins no transactions of its own

    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    sqlalchemy.event.listen(storage.engine, "connect", connect)
    sqlalchemy.event.listen(storage.engine, "begin", begin)
    storage.engine.dispose()  # connections from before know nothing of it
    return storage


def _check_sqlite(path: Path) -> None:
    """Refuse files that hold something else before Optuna writes its tables into them."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=LOCKED)
        try:
            found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise SearchError(f"{path}: cannot be opened as a study: {one_line(error)}") from None
    if found and TABLES.isdisjoint(found):
        raise SearchError(f"{path}: expected a study, got a database with the table {min(found)}")


def _postgresql(url: sqlalchemy.URL) -> RDBStorage:
    """A server; idle connections that it has closed are replaced."""
    arguments = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT}
    return _created(url, url.render_as_string(), {"pool_pre_ping": True, "connect_args": arguments})


def _created(url: sqlalchemy.URL, shown: str, arguments: dict[str, Any]) -> RDBStorage:
    """The storage, after its tables have been created by this process or by another one at the same moment."""
    try:
        engine = sqlalchemy.create_engine(url, **arguments)
        engine.connect().close()
        engine.dispose()
    except ImportError as error:
        raise SearchError(f"{shown}: {one_line(error)}; pip install 'robnet-zoo[postgresql]'") from None
    except SQLAlchemyError as error:
        raise SearchError(f"{shown}: {one_line(error)}") from None
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")  # Optuna formats it
    for attempt in range(1, RACES + 1):
        try:
            return RDBStorage(text, engine_kwargs=arguments)
        except (SQLAlchemyError, StorageInternalError) as error:
            if attempt == RACES:
                raise SearchError(f"{shown}: {one_line(error)}") from None
            time.sleep(0.05 * attempt)
        except RuntimeError as error:  # tables of an older or a newer Optuna
            raise SearchError(f"{shown}: {one_line(error)}") from None
    raise AssertionError("not reached")


class _Lock(JournalFileOpenLock):
    """Optuna's lock; who takes it removes the line that a killed writer left half written, which none could read."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), grace_period=ABANDONED)
        self._path = path

    def acquire(self) -> bool:
        super().acquire()
        try:
            with open(self._path, "rb+") as file:
                size = file.seek(0, 2)
                file.seek(max(size - 1, 0))
                if file.read(1) not in (b"\n", b""):
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
        except BaseException:
            self.release()
            raise
        return True


def _journal(name: str) -> JournalStorage:
    if not name:
        raise SearchError(f"journal: expected a path, as in {FORMS}")
    path = Path(name).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with open(path, "rb") as file:
            head = file.read(len(JOURNAL))
        if head != JOURNAL[: len(head)]:
            raise ValueError("it does not begin like one")
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_Lock(path)))
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:  # the reader's own, of strange lines
        raise SearchError(f"journal:{name}: expected the journal of a study: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    """The reason in one line: a driver's own, without the statement that SQLAlchemy adds."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    text = str(getattr(cause, "orig", None) or cause).strip() or type(cause).__name__
    return " ".join(text.split())
