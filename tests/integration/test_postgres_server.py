"""The PostgreSQL that tests get is real, empty and on loopback alone."""

from __future__ import annotations

import psycopg
import pytest


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
