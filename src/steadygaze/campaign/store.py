"""The file that keeps the records: SQLite, one writer, every finished case on the disk before the next.

While a campaign runs, the file is in WAL mode, so that reports may read it meanwhile. When the writer closes
it, everything is folded back into the one file, which can then be copied anywhere and read from a folder that
may not be written. A writer that was killed leaves its finished cases in the ``-wal`` file beside; the next
one to open the store takes them in. WAL needs a local disk: a network folder is for the closed file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from filelock import FileLock, Timeout

from steadygaze.campaign.plan import Plan, PlannedCase, Tag
from steadygaze.campaign.record import Record, Status
from steadygaze.errors import SettingError

APPLICATION = 0x53474753
SCHEMA = 1
_TABLES = """
CREATE TABLE cases (
    key TEXT PRIMARY KEY,
    position INTEGER,            -- in the latest plan; NULL where that plan has it no more
    plan TEXT NOT NULL,
    tags TEXT NOT NULL,          -- JSON
    question TEXT NOT NULL       -- JSON
);
CREATE TABLE records (
    key TEXT PRIMARY KEY REFERENCES cases (key),
    status TEXT NOT NULL,
    method TEXT NOT NULL,
    verdict TEXT,
    seconds REAL NOT NULL,
    regions INTEGER,
    finished TEXT NOT NULL,
    record TEXT NOT NULL         -- JSON: the whole of it; the columns before are its index
);
CREATE INDEX records_status ON records (status, method);
"""


@dataclass(frozen=True)
class Entry:
    """A case of the latest plan with its record, None while it is not finished.

    question: the fields of ``Case``, as JSON keeps them. tags: as planned.
    """

    key: str
    plan: str
    tags: Mapping[str, Tag]
    question: Mapping[str, Any]
    record: Record | None


@final
class Writer:
    """The one writer of a store; made by `writing`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def begin(self, plan: Plan, keyed: Mapping[str, PlannedCase]) -> None:
        """Note what is planned; records of the same content stay, whatever plan they came from."""
        rows = [
            (key, position, plan.name, json.dumps(dict(planned.tags)), json.dumps(asdict(planned.case)))
            for position, (key, planned) in enumerate(keyed.items())
        ]
        with self._connection:
            self._connection.execute("UPDATE cases SET position = NULL")
            self._connection.executemany(
                "INSERT INTO cases VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "position = excluded.position, plan = excluded.plan, tags = excluded.tags, "
                "question = excluded.question",
                rows,
            )

    def statuses(self, keys: Collection[str]) -> dict[str, Status]:
        """How those of the keys that are finished ended."""
        rows = self._connection.execute("SELECT key, status FROM records")
        return {key: Status(status) for key, status in rows if key in keys}

    def settle(self, key: str, planned: PlannedCase, record: Record) -> None:
        """Keep a record; when this returns it is on the disk."""
        answer = record.answer or {}
        row = (
            key,
            record.status.value,
            planned.case.method,
            answer.get("verdict"),
            record.seconds,
            answer.get("regions", {}).get("visited"),
            record.finished,
            json.dumps(record.to_dict(), allow_nan=False),
        )
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """Open the store to write, made where it is missing.

    Raises SettingError where another process writes to it, where the file is no store or one of another
    version, or where it cannot be written.
    """
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(f"{path}.lock").acquire(timeout=0))
            connection = held.enter_context(closing(_opened(path)))
        except Timeout as error:
            raise SettingError(
                f"the store {str(path)!r} is being written by another process; wait until it ends, or give "
                "another file"
            ) from error
        except (OSError, sqlite3.OperationalError) as error:
            raise SettingError(
                f"the store {str(path)!r} cannot be written ({error}); give a file in a local folder that "
                "may be written"
            ) from error
        held.callback(_fold, connection)
        yield Writer(connection)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    try:
        fresh = _is_empty(connection, path)
        if not fresh:
            _check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # in WAL mode: every commit reaches the disk
        if fresh:
            connection.executescript(
                f"BEGIN; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; "
                f"{_TABLES} COMMIT;"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _fold(connection: sqlite3.Connection) -> None:
    """Back to one plain file, unless somebody reads it just now: then the next to close does it."""
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError:
        return


def _is_empty(connection: sqlite3.Connection, path: Path) -> bool:
    try:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:  # it may not be written or read: said by the caller
        raise
    except sqlite3.DatabaseError as error:
        raise SettingError(
            f"{str(path)!r} is not a store of records ({error}); give the file that a campaign wrote"
        ) from error
    return tables == 0


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise SettingError(
            f"{str(path)!r} is a database of another program; give the file that a campaign wrote"
        )
    if schema != SCHEMA:
        raise SettingError(
            f"the store {str(path)!r} is of version {schema}, this release reads version {SCHEMA}; use the "
            "release that wrote it, or start a new file"
        )


def read(path: Path) -> list[Entry]:
    """The cases of the latest plan, in its order, with their records; also while a campaign runs.

    Raises SettingError where there is no such file, or it is no store of this version.
    """
    if not path.is_file():
        raise SettingError(f"there is no store {str(path)!r}; run the campaign first, or check the path")
    try:
        with closing(_reading(path)) as connection:
            if _is_empty(connection, path):
                return []
            _check(connection, path)
            rows = connection.execute(
                "SELECT key, plan, tags, question, record FROM cases LEFT JOIN records USING (key) "
                "WHERE position IS NOT NULL ORDER BY position"
            ).fetchall()
    except sqlite3.DatabaseError as error:
        raise SettingError(
            f"the store {str(path)!r} cannot be read ({error}); close the campaign that writes it, or take a "
            "whole copy"
        ) from error
    return [
        Entry(key, plan, json.loads(tags), json.loads(question), _record(record))
        for key, plan, tags, question, record in rows
    ]


def _reading(path: Path) -> sqlite3.Connection:
    """Read only. A file without its WAL beside it is closed: it is read even where nothing may be written."""
    open_elsewhere = Path(f"{path}-wal").exists()
    mode = "mode=ro" if open_elsewhere else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)


def _record(text: str | None) -> Record | None:
    return None if text is None else Record.from_dict(json.loads(text))
