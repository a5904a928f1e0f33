"""PostgreSQL by psycopg; the only file that imports it."""

from __future__ import annotations

import functools
import itertools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlfn.errors import MissingExtraError, StorageError, StoreCorruptError, StoreError

if TYPE_CHECKING:
    import psycopg

_SCHEMA_LOCK = 0x6D6C666E  # any number that others are unlikely to take; this one spells mlfn
_PATIENCE = 60.0  # seconds for which a server may be away before a COMMIT that it left unanswered is given up
_FIRST_PAUSES = (0.02, 0.1, 0.5)


class PostgresEngine:
    """One connection; transactions read what is committed and fence by the number of rows they changed."""

    types: Mapping[str, str] = {
        "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "real": "DOUBLE PRECISION",
        "integer": "BIGINT",
    }

    def __init__(self, url: str) -> None:
        self.url = url
        self.label = re.sub(r"//([^/@:]+):[^@]*@", r"//\1:***@", url)
        self._connection: psycopg.Connection[Any] | None = None
        self._transaction: str | None = None  # the server's name for the one that is open, if it writes

    def execute(self, sql: str, args: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        with self._errors():
            return self._connect().execute(_percent(sql), args)  # as bytes: a query need not be a literal

    def fetch(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._errors():
            return self._connect().execute(_percent(sql), args).fetchall()

    def begin(self, *, write: bool) -> None:
        if not write:
            self.execute("BEGIN READ ONLY")
            return
        with self._errors():
            # Two statements, one round trip; never prepared, which only one at a time can be.
            cursor = self._connect().execute(b"BEGIN; SELECT pg_current_xact_id()::text", prepare=False)
            cursor.nextset()
            self._transaction = cursor.fetchall()[0][0]

    def commit(self) -> None:
        transaction, self._transaction = self._transaction, None
        try:
            self.execute("COMMIT")
        except StorageError:
            # Done again, what was committed would be done twice; and its answers would say that it came too late.
            if transaction is None or not self._was_committed(transaction):
                raise

    def _was_committed(self, transaction: str) -> bool:
        """Ask the server what became of a transaction whose COMMIT went unanswered."""
        until = time.monotonic() + _PATIENCE
        for pause in itertools.chain(_FIRST_PAUSES, itertools.repeat(1.0)):
            try:
                [(status,)] = self.fetch("SELECT pg_xact_status(?::text::xid8)", (transaction,))
                if status != "in progress":
                    return bool(status == "committed")
                # The server waits for a client that is gone, and so would others for what that has locked.
                self.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = ?::text::xid8::xid",
                    (transaction,),
                )
            except StorageError as error:
                if time.monotonic() > until:
                    raise StorageError(
                        f"The store {self.label} went away during a COMMIT and has not come back for {_PATIENCE:.0f} s: "
                        "whether what was written last is kept shows when the server is up again."
                    ) from error
            time.sleep(pause)
        raise AssertionError  # the pauses do not end

    def rollback(self) -> None:
        self._transaction = None
        connection = self._connection
        if connection is None:
            return
        if connection.broken:
            self._connection = None
            return
        with self._errors():
            connection.execute("ROLLBACK")

    @contextmanager
    def lock_schema(self) -> Iterator[None]:
        self.execute("BEGIN")
        try:
            self.execute("SELECT pg_advisory_xact_lock(?)", (_SCHEMA_LOCK,))
            yield
        except BaseException:
            self.rollback()
            raise
        self.commit()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def before_fork(self) -> None:
        pass  # the child forgets its copy of the socket

    def after_fork(self) -> None:
        # Closing would say goodbye to the server in the parent's name: it is leaked on purpose.
        _leaked.append(self._connection)
        self._connection = None

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is not None and self._connection.closed:
            self._connection = None
        if self._connection is None:
            try:
                import psycopg
            except ImportError as error:
                raise MissingExtraError(
                    "A store at postgresql:// needs psycopg: pip install 'mlfn[postgres]'"
                ) from error
            self._connection = psycopg.connect(self.url, autocommit=True, connect_timeout=20)
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (StoreError, MissingExtraError):
            raise
        except Exception as error:
            raise self._mapped(error) from error

    def _mapped(self, error: Exception) -> Exception:
        import psycopg

        text = str(error).strip()
        if isinstance(error, psycopg.errors.DataCorrupted):
            return StoreCorruptError(f"The store {self.label} is damaged ({text}); restore it from its backup.")
        if isinstance(error, psycopg.OperationalError):
            return StorageError(
                f"The store {self.label} cannot be reached or written ({text}); is the server up, is there space?"
            )
        if isinstance(error, psycopg.Error):
            return StoreError(f"The store {self.label} refused: {text}.")
        return error


@functools.lru_cache(maxsize=512)
def _percent(sql: str) -> bytes:
    return sql.replace("%", "%%").replace("?", "%s").encode()


_leaked: list[Any] = []
