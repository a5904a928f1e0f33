"""The PostgreSQL that tests get is real, empty and on loopback alone."""

from __future__ import annotations

import shutil

import psycopg
import pytest

from tests import postgres_server


@pytest.mark.parametrize("_", range(2))
def test_each_test_has_an_empty_database(postgres_store_url, _):
    with psycopg.connect(postgres_store_url) as connection:
        connection.execute("CREATE TABLE mine (n integer)")
        rows = connection.execute("SELECT count(*) FROM mine").fetchone()

    assert rows == (0,)


def test_the_server_listens_on_loopback_alone(postgres_url):
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)


def test_a_stranger_without_the_password_is_refused(postgres_url):
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres_url, password="guess")


def test_a_machine_without_postgresql_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(postgres_server, "INSTALLED_IN", ())
    monkeypatch.setattr(shutil, "which", lambda _: None)

    with pytest.raises(RuntimeError, match="apt-get install postgresql"), postgres_server.postgres():
        pass
