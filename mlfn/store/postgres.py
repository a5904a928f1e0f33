"""PostgreSQL by psycopg; the only file that imports it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlfn.errors import MissingExtraError, StorageError, StoreCorruptError, StoreError

if TYPE_CHECKING:
    import psycopg

_SCHEMA_LOCK = 0x6D6C666E  # any number that others are unlikely to take; this one spells mlfn


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

    def execute(self, sql: str, args: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        with self._errors():
            return self._connect().execute(_percent(sql), args)  # as bytes: a query need not be a literal

    def fetch(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._errors():
            return self._connect().execute(_percent(sql), args).fetchall()

    def begin(self, *, write: bool) -> None:
        self.execute("BEGIN" if write else "BEGIN READ ONLY")

    def commit(self) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
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
