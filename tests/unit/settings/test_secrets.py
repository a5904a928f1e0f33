"""References to secrets, and their values on this machine."""

from __future__ import annotations

import json
import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlfn.errors import OptionError, SecretNotFoundError, StorageError, StoreCorruptError
from mlfn.settings.secrets import Secret, list_secrets, read_secret, remove_secret, write_secret


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "secrets.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_reference_carries_names_only() -> None:
    assert repr(Secret("s3-creds", key="AWS_KEY", env="AWS_KEY")) == (
        "Secret(name='s3-creds', key='AWS_KEY', env='AWS_KEY')"
    )


@pytest.mark.parametrize("name", ["", "-a", "a-", "a..b", "a/b", "a b", "a\n", "é", "a" * 254, None, 3])
def test_a_misspelt_secret_name_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="no name of a secret"):
        Secret(name)


def test_a_value_given_as_name_is_cut() -> None:
    with pytest.raises(OptionError) as refused:
        Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")

    assert "wJalrXUt..." in str(refused.value)
    assert "K7MDENG" not in str(refused.value)


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", "a\n"])
def test_a_misspelt_secret_key_is_refused(key: str) -> None:
    with pytest.raises(OptionError, match="no key"):
        Secret("s3", key=key)


@pytest.mark.parametrize("env", ["", "1A", "A-B", "A=B", "A\n", "MLFN_STORE"])
def test_a_misspelt_variable_is_refused(env: str) -> None:
    with pytest.raises(OptionError, match="no environment variable"):
        Secret("s3", env=env)


def test_the_environment_comes_before_the_file(file: Path) -> None:
    write_secret("s3-key", "from file", file)

    assert read_secret(Secret("s3-key"), environ={}, file=file) == "from file"
    assert read_secret(Secret("s3-key"), environ={"S3_KEY": "capitals"}, file=file) == "capitals"
    assert read_secret(Secret("s3-key"), environ={"S3_KEY": "capitals", "s3-key": "exact"}, file=file) == "exact"
    assert read_secret(Secret("s3-key"), environ={"S3_KEY": ""}, file=file) == "from file"


def test_the_environment_has_a_key_under_both_names(file: Path) -> None:
    secret = Secret("s3-creds", key="AWS_KEY")

    assert read_secret(secret, environ={"S3_CREDS_AWS_KEY": "value"}, file=file) == "value"


def test_a_secret_with_keys_is_read_by_key(file: Path) -> None:
    write_secret("s3", "first", file, key="id")
    write_secret("s3", "second", file, key="key")

    assert read_secret(Secret("s3", key="id"), environ={}, file=file) == "first"
    assert read_secret(Secret("s3", key="key"), environ={}, file=file) == "second"
    with pytest.raises(SecretNotFoundError, match=r"say which with Secret\('s3', key=\.\.\.\): id, key"):
        read_secret(Secret("s3"), environ={}, file=file)


def test_a_missing_secret_names_the_command(file: Path) -> None:
    with pytest.raises(SecretNotFoundError, match=r"mlfn secret set s3-key .*S3_KEY"):
        read_secret(Secret("s3-key"), environ={}, file=file)
    with pytest.raises(SecretNotFoundError, match=r"mlfn secret set s3 --key id .*S3_ID"):
        read_secret(Secret("s3", key="id"), environ={}, file=file)


@pytest.mark.parametrize("value", ["abc", "abc\n", "", "a\0bcd", "x" * 65537, 12345])
def test_an_unmaskable_value_is_refused(file: Path, value: str) -> None:
    with pytest.raises(OptionError) as refused:
        write_secret("s3", value, file)

    assert not value or repr(value) not in str(refused.value)
    assert not file.exists()


@pytest.mark.parametrize(("value", "counted"), [("", "0 characters"), ("a", "1 character"), ("abc", "3 characters")])
def test_how_short_a_value_is_is_said(file: Path, value: str, counted: str) -> None:
    with pytest.raises(OptionError, match=f"'s3' has {counted}; under 4 "):
        write_secret("s3", value, file)


def test_keys_do_not_replace_a_single_value(file: Path) -> None:
    write_secret("s3", "single", file)

    with pytest.raises(OptionError, match="mlfn secret remove s3"):
        write_secret("s3", "keyed", file, key="id")


def test_removing_and_listing_go_by_name(file: Path) -> None:
    write_secret("b", "value b", file)
    write_secret("a", "value a", file)

    assert list_secrets(file) == ["a", "b"]
    remove_secret("b", file)
    assert list_secrets(file) == ["a"]
    with pytest.raises(SecretNotFoundError, match=r"no secret 'b' to remove. Secrets here: a"):
        remove_secret("b", file)


def test_without_a_file_there_are_no_secrets(file: Path) -> None:
    assert list_secrets(file) == []
    assert not file.parent.exists()


def test_file_and_folder_are_private_under_any_umask(file: Path) -> None:
    before = os.umask(0)
    try:
        write_secret("s3", "value", file)
    finally:
        os.umask(before)

    assert {path.name: mode(path) for path in file.parent.iterdir()} == {
        "secrets.json": 0o600,
        "secrets.json.lock": 0o600,
    }
    assert mode(file.parent) == 0o700


def test_a_readable_secrets_file_is_made_private(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_secret("s3", "value", file)
    file.chmod(0o644)

    with caplog.at_level(logging.WARNING):
        assert read_secret(Secret("s3"), environ={}, file=file) == "value"

    assert mode(file) == 0o600
    assert "could be read by others" in caplog.text
    assert "value" not in caplog.text


def test_a_file_that_cannot_be_mended_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_secret("s3", "value", file)
    file.chmod(0o644)

    def refuse(descriptor: int, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)  # a read-only mount, which a test cannot make

    with pytest.raises(StorageError, match="chmod 600"):
        list_secrets(file)


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"a": {"k": 1}}', "\xff"])
def test_a_damaged_file_is_named_and_not_shown(file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_bytes(content.encode("latin-1"))
    file.chmod(0o600)

    with pytest.raises(StoreCorruptError, match=r"secrets\.json") as refused:
        list_secrets(file)

    assert refused.value.__cause__ is None
    assert not isinstance(refused.value.__context__, json.JSONDecodeError)


def test_writers_at_the_same_time_lose_nothing(file: Path) -> None:
    names = [f"s{number}" for number in range(20)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: write_secret(name, "value", file), names))

    assert list_secrets(file) == sorted(names)
