"""The store over SQL: its commands and queries over one connection."""

from __future__ import annotations

from mlfn.store.sql.commands.changes import ChangeCommands
from mlfn.store.sql.commands.clients import ClientCommands
from mlfn.store.sql.commands.functions import FunctionCommands
from mlfn.store.sql.commands.removal import RemovalCommands
from mlfn.store.sql.queries import SqlReader


class SqlStore(SqlReader, ChangeCommands, FunctionCommands, ClientCommands, RemovalCommands):
    """Implements `mlfn.store.commands.Store`."""
