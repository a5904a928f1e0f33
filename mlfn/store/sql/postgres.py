"""PostgreSQL by psycopg; the only file that imports it."""

from __future__ import annotations

import functools
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from mlfn.errors import MissingExtraError, StorageError, StoreCorruptError, StoreError

if TYPE_CHECKING:
    import psycopg

_SCHEMA_LOCK = 0x6D6C666E  # any number that others are unlikely to take; this one spells mlfn
_PATIENCE = 60.0  # seconds to ask a server that is away about a COMMIT that it left unanswered
# What writes finds its rows by an index. The planner prefers to read a small table whole, and keeps to that plan when the
# table has grown.
_SET = (
    b"SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
    b"set_config('enable_mergejoin', 'off', true), pg_current_xact_id()::text"
)
_FIRST_PAUSES = (0.02, 0.1, 0.5)
T = TypeVar("T")


class PostgresEngine:
    """One connection. Transactions are READ COMMITTED: statements fence by the number of rows that they change."""

    types: Mapping[str, str] = {
        "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "real": "DOUBLE PRECISION",
        "integer": "BIGINT",
        "key": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "clustered": "",
        "position": "ctid",
        "object": "json_build_object",
    }

    def __init__(self, url: str) -> None:
        self.url = url
        self.label = re.sub(r"//([^/@:]+):[^@]*@", r"//\1:***@", url)
        self._connection: psycopg.Connection[Any] | None = None
        self._begins = False  # a transaction, with the next statement
        self._transaction: str | None = None  # the server's id of the one that is open

    def execute(self, sql: str, args: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        with self._errors():
            if not self._begins:
                return self._connect().execute(_percent(sql), args)  # bytes: psycopg types a str as a literal
            self._begins = False
            connection = self._connect()
            with connection.pipeline():  # one round trip for all three
                connection.execute(b"BEGIN")
                set_ = connection.execute(_SET)
                cursor = connection.execute(_percent(sql), args)
            self._transaction = set_.fetchall()[0][3]
            return cursor

    def insert_alone(self, sql: str, args: Sequence[Any]) -> int:
        with self._errors():
            connection = self._connect()
        try:
            return self.execute(sql, args).rowcount
        except StorageError:
            if connection is self._connection and not connection.closed:
                raise
        # It may have been carried out. A second INSERT waits for the end of the first, so that the row is there after it.
        self._until_answered(lambda: self.execute(sql, args))
        return 1

    def fetch(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.execute(sql, args).fetchall()

    def pieces(self, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
        if rows:
            yield rows

    def table_of_arguments(self, types: Sequence[str], count: int) -> str:
        arrays = ", ".join(f"?::{self.types.get(type_, type_)}[]" for type_ in types)
        return f"unnest({arrays}) AS new ({', '.join(f'column{number + 1}' for number in range(len(types)))})"

    def arguments(self, rows: Sequence[Sequence[Any]], types: Sequence[str]) -> list[Any]:
        # Written here: psycopg takes four times as long for its arrays, and refuses one of 1 and 0.5.
        return [f"{{{','.join(map(_quoted, column))}}}" for column in zip(*rows, strict=True)]

    def begin(self) -> None:
        self._begins = True

    def commit(self) -> None:
        if self._begins:  # nothing was done
            self._begins = False
            return
        transaction, self._transaction = self._transaction, None
        try:
            self.execute("COMMIT")
        except StorageError:
            # The caller will send the batch again. If it was committed, its changes would then seem to come too late.
            if transaction is None or not self._was_committed(transaction):
                raise

    def _was_committed(self, transaction: str) -> bool:
        """Ask the server about a transaction whose COMMIT went unanswered."""

        def ask() -> bool | None:
            [(status,)] = self.fetch("SELECT pg_xact_status(?::text::xid8)", (transaction,))
            if status != "in progress":
                return bool(status == "committed")
            # The server still waits for the broken connection, which holds locks.
            self.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = ?::text::xid8::xid",
                (transaction,),
            )
            return None

        return self._until_answered(ask)

    def _until_answered(self, ask: Callable[[], T | None]) -> T:
        """Ask a server that may be away until it answers, after something that it was sent went unanswered."""
        until = time.monotonic() + _PATIENCE
        for pause in itertools.chain(_FIRST_PAUSES, itertools.repeat(1.0)):
            try:
                if (answer := ask()) is not None:
                    return answer
            except StorageError as error:
                if time.monotonic() > until:
                    raise StorageError(
                        f"The store {self.label} went away during a write and has not come back for {_PATIENCE:.0f} s: "
                        "it is unknown whether that was written; `mlfn show` tells when the server is up again."
                    ) from error
            time.sleep(pause)
        raise AssertionError("the pauses do not end")

    def rollback(self) -> None:
        self._begins, self._transaction = False, None
        connection = self._connection
        if connection is not None and not connection.closed:
            with self._errors():
                connection.execute("ROLLBACK")

    def begin_migration(self) -> None:
        self.execute("BEGIN")
        self.execute("SELECT pg_advisory_xact_lock(?)", (_SCHEMA_LOCK,))

    def for_inserts(self) -> PostgresEngine:
        return PostgresEngine(self.url)

    def size(self) -> int:
        [(size,)] = self.fetch(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'runs'::regclass)"
        )
        return int(size)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def before_fork(self) -> None:
        pass  # after_fork drops the copy of the socket

    def after_fork(self) -> None:
        # Closing it would end the parent's connection at the server: it is leaked on purpose.
        _leaked.append(self._connection)
        self._connection = None

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is not None and self._connection.closed:
            self._connection = None
        if self._connection is None:
            import psycopg

            self._connection = psycopg.connect(self.url, autocommit=True, connect_timeout=20)
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            import psycopg
        except ImportError as error:
            raise MissingExtraError("A store at postgresql:// needs psycopg: pip install 'mlfn[postgres]'") from error
        try:
            yield
        except psycopg.Error as error:
            raise self._mapped(error) from error

    def _mapped(self, error: psycopg.Error) -> StoreError:
        import psycopg

        text = str(error).strip()
        if isinstance(error, psycopg.errors.DataCorrupted):
            return StoreCorruptError(f"The store {self.label} is damaged ({text}); restore it from its backup.")
        if isinstance(error, psycopg.OperationalError):
            return StorageError(
                f"The store {self.label} cannot be reached or written ({text}); is the server up, is there space?"
            )
        return StoreError(f"The store {self.label} refused: {text}.")


def _quoted(value: str | float | None) -> str:
    """Return a value as an array's text has it."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)


@functools.lru_cache(maxsize=512)
def _percent(sql: str) -> bytes:
    return sql.replace("%", "%%").replace("?", "%s").encode()


_leaked: list[Any] = []
