"""The storage of a search's candidates: a SQLite file, a PostgreSQL server, or a journal on a shared file system."""

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

from robnet_zoo.core.documents import fspath, nearest
from robnet_zoo.errors import SearchError, printable

FORMS = "a path, sqlite:///PATH, postgresql://USER@HOST/DATABASE or journal:PATH"
SCHEMES = ("sqlite", "postgresql", "postgresql+psycopg", "postgres", "journal")
LOCKED = 120  # for how many seconds other processes may keep a SQLite file locked
CONNECT = 10  # within how many seconds a server must answer
ABANDONED = 30  # seconds after which a journal's lock counts as left behind by a killed writer
RACES = 10  # how often another process may be creating the same tables
TABLES = {"studies", "trials", "version_info", "alembic_version"}  # some of those that Optuna creates
JOURNAL = b'{"op_code":'  # how every line of a journal begins


def open_storage(where: str, *, create: bool = True) -> BaseStorage:
    """Open Optuna's storage at a place of one of the FORMS, or create it.

    Open it in the process that uses it: neither connections nor a journal's identity survive a fork. Raises SearchError
    if that is not possible, in one line without a password.

    create: whether a storage that does not exist is created; if not, SearchError is raised.
    """
    where = fspath(where, FORMS, error=SearchError)
    if not where.isprintable():
        raise SearchError(f"{printable(where)}: expected {FORMS}, without unprintable characters")
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # otherwise it logs every trial
    scheme, _, rest = where.partition(":")
    if scheme == "journal":
        return _journal(rest, create=create)
    if "://" not in where:
        return _sqlite(where, create=create)
    if scheme not in SCHEMES:
        raise SearchError(f"{scheme}://: expected {FORMS}{nearest(scheme, SCHEMES)}")
    try:
        url = sqlalchemy.make_url(where)
    except (ArgumentError, ValueError) as error:  # ValueError: the port is not a number
        raise SearchError(f"{scheme}://...: expected {FORMS}: {one_line(error)}") from None
    if scheme == "sqlite":
        return _sqlite(url.database or "", create=create)
    return _postgresql(url.set(drivername="postgresql+psycopg"), create=create)


def _sqlite(name: str, *, create: bool) -> RDBStorage:
    """Open a SQLite file whose transactions take the write lock when they begin.

    Optuna reads a trial's state and then writes it; the sqlite3 module begins a transaction between the two, so that
    two processes could both finish a trial. SQLAlchemy documents this cure ("Serializable isolation / Savepoints /
    Transactional DDL" of its SQLite dialect).
    """
    if name in ("", ":memory:"):
        raise SearchError(f"{name or 'sqlite://'}: expected the path of a file that workers share")
    path = Path(name).absolute()
    if not create:
        _require(path, name)
    _check_sqlite(path)
    url = sqlalchemy.URL.create("sqlite", database=str(path))
    storage = _opened(url, name, {"connect_args": {"timeout": LOCKED}}, create=create)

    def connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the module does not begin transactions by itself

    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    sqlalchemy.event.listen(storage.engine, "connect", connect)
    sqlalchemy.event.listen(storage.engine, "begin", begin)
    storage.engine.dispose()  # earlier connections do not have the listeners
    return storage


def _check_sqlite(path: Path) -> None:
    """Raise SearchError for a file that holds something else, before Optuna writes its tables into it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=LOCKED)
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise SearchError(f"{path}: cannot be opened as a study: {one_line(error)}") from None
    if tables and TABLES.isdisjoint(tables):
        raise SearchError(f"{path}: expected a study, got a database with the table {min(tables)}")


def _require(path: Path, shown: str) -> None:
    """Raise SearchError for a file that does not exist. shown: its name in the message."""
    if not path.is_file():
        raise SearchError(f"{shown}: expected a study, got no such file")


def _postgresql(url: sqlalchemy.URL, *, create: bool) -> RDBStorage:
    """Open a PostgreSQL server; idle connections that it has closed are replaced."""
    arguments = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT}
    engine = {"pool_pre_ping": True, "connect_args": arguments}
    return _opened(url, url.render_as_string(), engine, create=create)


def _opened(url: sqlalchemy.URL, shown: str, arguments: dict[str, Any], *, create: bool) -> RDBStorage:
    """Open a database after its tables were created, by this process or by another at the same moment.

    Args:
        url: of the database.
        shown: its name in messages.
        arguments: of its engine.
        create: whether tables that it lacks are created.

    Raises: SearchError.
    """
    try:
        engine = sqlalchemy.create_engine(url, **arguments)
        engine.connect().close()
        lacking = not create and TABLES.isdisjoint(sqlalchemy.inspect(engine).get_table_names())
        engine.dispose()
    except ImportError as error:
        raise SearchError(f"{shown}: {one_line(error)}; pip install 'robnet-zoo[postgresql]'") from None
    except SQLAlchemyError as error:
        raise SearchError(f"{shown}: {one_line(error)}") from None
    if lacking:
        raise SearchError(f"{shown}: expected a study, got a database without one")
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")  # Optuna formats it
    attempt = 0
    while True:
        attempt += 1
        try:
            return RDBStorage(text, engine_kwargs=arguments)
        except (SQLAlchemyError, StorageInternalError) as error:
            if attempt == RACES:
                raise SearchError(f"{shown}: {one_line(error)}") from None
            time.sleep(0.05 * attempt)
        except RuntimeError as error:  # tables of an older or a newer Optuna
            raise SearchError(f"{shown}: {one_line(error)}") from None


class _Lock(JournalFileOpenLock):
    """Optuna's lock of a journal. Taking it removes an unreadable last line, left half written by a killed writer."""

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


def _journal(name: str, *, create: bool) -> JournalStorage:
    """Open a journal file, or create it."""
    if not name:
        raise SearchError(f"journal: expected a path, as in {FORMS}")
    path, refusal = Path(name).absolute(), f"journal:{name}: expected the journal of a study"
    if not create:
        _require(path, f"journal:{name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with open(path, "rb") as file:
            head = file.read(len(JOURNAL))
        if head != JOURNAL[: len(head)]:
            raise SearchError(f"{refusal}: it does not begin like one")
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_Lock(path)))
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:  # Optuna's reader of strange lines
        raise SearchError(f"{refusal}: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    """Return the reason of an error in one line: the driver's own, without the statement that SQLAlchemy adds."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    text = str(getattr(cause, "orig", None) or cause).strip() or type(cause).__name__
    return " ".join(text.split())
