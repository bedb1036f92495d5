"""The file that keeps the records: SQLite, one writer, every finished case on the disk within a moment.

While a campaign runs, the file is in WAL mode, so that reports may read it meanwhile. When the writer closes
it, everything is folded back into the one file, which can then be copied anywhere and read from a folder that
may not be written. A writer that was killed leaves its finished cases in the ``-wal`` file beside; the next
one to open the store takes them in. WAL needs a local disk: a network folder is for the closed file.
"""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from filelock import FileLock, Timeout

from steadygaze.answer.asked import CLASS_ALONE, CLASS_AND_ATTENTION
from steadygaze.campaign.plan import Plan, PlannedCase, Tag
from steadygaze.campaign.record import Record, Status
from steadygaze.errors import SettingError
from steadygaze.question.case import CLASS

PAUSE = 0.1  # seconds between two times that records are put on the disk
APPLICATION = 0x53474753
SCHEMA = 2
_RECORDS = """
CREATE TABLE records (
    key TEXT PRIMARY KEY,
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
_PLAN = """
CREATE TABLE cases (             -- of the latest plan; several may ask the same
    position INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    tags TEXT NOT NULL,          -- JSON
    question TEXT NOT NULL       -- JSON
);
CREATE INDEX cases_key ON cases (key);
CREATE TABLE plan (name TEXT NOT NULL, document TEXT NOT NULL); -- one row: the latest, as it was written
CREATE TABLE run (state TEXT NOT NULL);                         -- one row: the latest, JSON of `RunState`
"""
# From the version in which a case was kept under its key.
_FROM_1 = f"""
ALTER TABLE cases RENAME TO former;
{_PLAN}
INSERT INTO cases SELECT position, key, tags, question FROM former WHERE position IS NOT NULL;
INSERT INTO plan SELECT plan, '{{}}' FROM former WHERE position IS NOT NULL ORDER BY position LIMIT 1;
ALTER TABLE records RENAME TO recorded;
DROP INDEX records_status;
{_RECORDS}
INSERT INTO records SELECT * FROM recorded;
DROP TABLE recorded;
DROP TABLE former;
"""


@dataclass(frozen=True)
class Entry:
    """A case of the latest plan with its record.

    Attributes:
        key: its content key.
        plan: the name of the plan.
        tags: as planned.
        question: the fields of `Case`, as JSON keeps them.
        record: how it ended; None while it is not finished.
    """

    key: str
    plan: str
    tags: Mapping[str, Tag]
    question: Mapping[str, Any]
    record: Record | None

    @property
    def class_alone(self) -> bool:
        """Whether only the class had to hold."""
        return self.question.get("claim") == CLASS

    @property
    def must_hold(self) -> str:
        """What had to hold, as `result.json` has it."""
        return CLASS_ALONE if self.class_alone else CLASS_AND_ATTENTION


@dataclass(frozen=True)
class RunState:
    """What the driver of a run says of itself, for those who look on.

    Attributes:
        process: its number.
        host: of which machine.
        workers: cases side by side.
        began: when, in seconds since 1970.
        beat: when it last said so.
        ended: how, None while it is at work.
        at_work: the tags of the cases that are being verified.
    """

    process: int
    host: str
    workers: int
    began: float
    beat: float
    ended: str | None = None
    at_work: tuple[Mapping[str, Tag], ...] = ()


@dataclass(frozen=True)
class Ending:
    """How a case ended, in short; verdict: None where there is no answer."""

    status: Status
    verdict: str | None
    seconds: float


@final
class Writer:
    """The one writer of a store; made by `writing`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self._kept = -math.inf

    def begin(self, plan: Plan, keys: Sequence[str]) -> None:
        """Note what is planned; records of the same content stay, whatever plan they came from."""
        rows = [
            (position, key, json.dumps(dict(planned.tags)), json.dumps(vars(planned.case)))
            for position, (key, planned) in enumerate(zip(keys, plan.cases, strict=True))
        ]
        with self._changing() as connection:
            connection.execute("DELETE FROM cases")
            connection.executemany("INSERT INTO cases VALUES (?, ?, ?, ?)", rows)
            connection.execute("DELETE FROM plan")
            connection.execute("INSERT INTO plan VALUES (?, ?)", (plan.name, json.dumps(plan.document)))

    def endings(self, keys: Collection[str]) -> dict[str, Ending]:
        """How those of the keys that are finished ended."""
        rows = self._connection.execute("SELECT key, status, verdict, seconds FROM records")
        return {key: Ending(Status(status), *rest) for key, status, *rest in rows if key in keys}

    def settle(self, key: str, planned: PlannedCase, record: Record, files: Mapping[str, bytes]) -> None:
        """Keep a record and the folder of the answer, if any.

        It is on the disk when this returns, unless another was put there less than `PAUSE` ago: then with the
        next one, or `keep`. Records that come faster than a disk turns would else have to wait for it.
        """
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
        if files:
            with _said(self._path):
                _write_folder(folder_of(self._path, key), files)
        with _said(self._path):
            self._connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        self.keep()

    def keep(self, at_once: bool = False) -> None:
        """Put on the disk what was settled and is not there yet, if it is time to."""
        now = time.monotonic()
        if self._connection.in_transaction and (at_once or now - self._kept >= PAUSE):
            with _said(self._path):
                self._connection.commit()
            self._kept = now

    def tell(self, state: RunState) -> None:
        """Keep what the run says of itself."""
        with self._changing() as connection:
            connection.execute("DELETE FROM run")
            connection.execute("INSERT INTO run VALUES (?)", (json.dumps(asdict(state)),))

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction. Raises SettingError where the disk is full or gone."""
        with _said(self._path), self._connection:
            yield self._connection


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """What goes wrong in writing to the store, as a sentence."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise SettingError(
            f"the store {str(path)!r} cannot be written any more ({error}); what was finished before is "
            "kept: see whether the disk is full, make room, and run the same again to go on"
        ) from error


def folder_of(store: Path, key: str) -> Path:
    """Where the folder of an answer is kept, if it is: beside the store."""
    return store.with_name(f"{store.name}.cases") / key


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Under another name first, so that a folder is whole or not there."""
    unfinished = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name, content in files.items():
        path = unfinished / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


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
        writer = Writer(connection, path)
        yield writer
        writer.keep(at_once=True)


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
                f"{_RECORDS} {_PLAN} COMMIT;"
            )
        elif _version(connection) == 1:
            connection.executescript(f"BEGIN; {_FROM_1} PRAGMA user_version = {SCHEMA}; COMMIT;")
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
    schema = _version(connection)
    if application != APPLICATION:
        raise SettingError(
            f"{str(path)!r} is a database of another program; give the file that a campaign wrote"
        )
    if schema not in (1, SCHEMA):
        raise SettingError(
            f"the store {str(path)!r} is of version {schema}, this release reads version {SCHEMA}; use the "
            "release that wrote it, or start a new file"
        )


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def read(path: str | Path) -> list[Entry]:
    """The cases of the latest plan, in its order, with their records; also while a campaign runs.

    Args:
        path: the store.

    Returns:
        An entry for each case; none where nothing was planned.

    Raises:
        SettingError: if there is no such file, or it is no store of this version.
    """
    with _read(Path(path)) as connection:
        if connection is None:
            return []
        plan = "(SELECT name FROM plan)" if _version(connection) > 1 else "plan"
        rows = connection.execute(
            f"SELECT key, {plan}, tags, question, record FROM cases LEFT JOIN records USING (key) "
            "WHERE position IS NOT NULL ORDER BY position"
        ).fetchall()
    return [
        Entry(key, plan, json.loads(tags), json.loads(question), _record(record))
        for key, plan, tags, question, record in rows
    ]


def read_document(path: str | Path) -> dict[str, Any]:
    """The latest plan as it was written down; empty where it was not, or the store is. Raises as `read`."""
    with _read(Path(path)) as connection:
        if connection is None or _version(connection) == 1:
            return {}
        found = connection.execute("SELECT document FROM plan").fetchone()
    return json.loads(found[0]) if found else {}


def read_state(path: str | Path) -> RunState | None:
    """What the latest run says of itself, None where there was none. Raises as `read`."""
    with _read(Path(path)) as connection:
        if connection is None or _version(connection) == 1:
            return None
        found = connection.execute("SELECT state FROM run").fetchone()
    if not found:
        return None
    state = json.loads(found[0])
    return RunState(**{**state, "at_work": tuple(state["at_work"])})


@contextmanager
def _read(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection to read from; None where the store was only just made."""
    if not path.is_file():
        raise SettingError(f"there is no store {str(path)!r}; run the campaign first, or check the path")
    try:
        with closing(_reading(path)) as connection:
            if _is_empty(connection, path):
                yield None
                return
            _check(connection, path)
            yield connection
    except sqlite3.DatabaseError as error:
        raise SettingError(
            f"the store {str(path)!r} cannot be read ({error}); close the campaign that writes it, or take a "
            "whole copy"
        ) from error


def _reading(path: Path) -> sqlite3.Connection:
    """Read only. A file without its WAL beside it is closed: it is read even where nothing may be written."""
    open_elsewhere = Path(f"{path}-wal").exists()
    mode = "mode=ro" if open_elsewhere else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)


def _record(text: str | None) -> Record | None:
    return None if text is None else Record.from_dict(json.loads(text))
