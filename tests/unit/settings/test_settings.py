"""Settings: where they come from, which source wins, what is refused; folders and the signing key."""

from __future__ import annotations

import dataclasses
import logging
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlfn.errors import SettingsError, StorageError
from mlfn.host import cores
from mlfn.host.cores import usable_cores
from mlfn.host.private_files import ensure_folder
from mlfn.settings import current as settings
from mlfn.settings import folders
from mlfn.settings.current import current, data_folder, secrets_file, signing_key
from mlfn.settings.declarations import SETTINGS, Settings
from mlfn.settings.folders import config_folder
from mlfn.settings.sources import load


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user with an empty home folder, in an empty project folder."""
    home = tmp_path / "home"
    (home / "project" / "deep").mkdir(parents=True)
    for name in list(os.environ):
        if name.startswith(("MLFN_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "project" / "deep")
    settings.reset()
    yield home
    settings.reset()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_user_file(home: Path, text: str) -> Path:
    path = home / ".config" / "mlfn" / "mlfn.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# Sources ----------------------------------------------------------------------------------------------------


def test_each_setting_has_its_names_from_one_declaration() -> None:
    assert [field.name for field in dataclasses.fields(Settings)] == list(SETTINGS)
    assert SETTINGS["max_workers"].variable == "MLFN_MAX_WORKERS"
    assert SETTINGS["max_workers"].flag == "--max-workers"
    assert all(setting.doc.endswith(".") and setting.allowed for setting in SETTINGS.values())


def test_every_default_fits_its_own_declaration() -> None:
    assert all(setting.check(setting.default) for setting in SETTINGS.values())


def test_the_nearest_source_wins(home: Path) -> None:
    user = write_user_file(home, 'project = "user"\non = "local"\ngrace = 1\nheartbeat = 1\nmax_workers = 1\n')
    project = home / "project" / "mlfn.toml"
    project.write_text('project = "file"\non = "local"\ngrace = 2\nheartbeat = 2\n')
    environ = {**os.environ, "MLFN_PROJECT": "env", "MLFN_ON": "local", "MLFN_GRACE": "3"}

    resolved = load({"project": "flag", "on": None}, {"project": "init", "on": "inline"}, environ)

    assert dataclasses.asdict(resolved.settings) == {
        "project": "flag",
        "on": "inline",
        "grace": 3.0,
        "heartbeat": 2.0,
        "max_workers": 1,
        "store": "",
        "data": "",
        "artifacts": "",
        "image": "",
        "package_index": "",
        "trusted_host": "",
        "nuclio_processor": "",
        "nuclio_wrapper": "",
        "nuclio_dashboard": "",
        "color": "auto",
    }
    assert resolved.sources == {
        "project": "--project",
        "on": "init()",
        "grace": "MLFN_GRACE",
        "heartbeat": f"{project}:heartbeat",
        "max_workers": f"{user}:max_workers",
        "store": "default",
        "data": "default",
        "artifacts": "default",
        "image": "default",
        "package_index": "default",
        "trusted_host": "default",
        "nuclio_processor": "default",
        "nuclio_wrapper": "default",
        "nuclio_dashboard": "default",
        "color": "default",
    }


def test_of_project_files_only_the_nearest_counts(home: Path) -> None:
    (home / "project" / "mlfn.toml").write_text('project = "far"\non = "inline"\n')
    (home / "project" / "deep" / "mlfn.toml").write_text('project = "near"\n')

    resolved = load()

    assert (resolved.settings.project, resolved.settings.on) == ("near", "local")


def test_an_empty_variable_counts_as_unset(home: Path) -> None:
    assert load(environ={"HOME": str(home), "MLFN_GRACE": ""}).sources["grace"] == "default"


def test_a_byte_order_mark_is_no_error(home: Path) -> None:
    Path("mlfn.toml").write_bytes(b'\xef\xbb\xbfproject = "a"\n')

    assert load().settings.project == "a"


def test_environment_and_flags_give_numbers_as_text(home: Path) -> None:
    resolved = load({"grace": "1.5"}, environ={"HOME": str(home), "MLFN_MAX_WORKERS": "8"})

    assert (resolved.settings.grace, resolved.settings.max_workers) == (1.5, 8)


def test_a_relative_data_folder_starts_at_its_source(home: Path) -> None:
    (home / "project" / "mlfn.toml").write_text('data = "runs"\n')

    assert load().settings.data == str(home / "project" / "runs")
    assert load(init={"data": Path("runs")}).settings.data == str(home / "project" / "deep" / "runs")
    assert load(environ={**os.environ, "MLFN_DATA": "~/runs"}).settings.data == str(home / "runs")


def test_an_artifact_root_is_a_folder_or_url(home: Path) -> None:
    Path("mlfn.toml").write_text('artifacts = "shelf"\n')
    assert load().settings.artifacts == str(Path.cwd() / "shelf")

    assert load(init={"artifacts": "s3://bucket/path"}).settings.artifacts == "s3://bucket/path"


@pytest.mark.parametrize("url", ["ftp://host/x", "simplecache::s3://x", "S4://x", "reference://x", "s3 ://x", "://x"])
def test_a_protocol_that_keeps_no_files_is_refused(home: Path, url: str) -> None:
    with pytest.raises(SettingsError, match=r"a URL that begins with abfs://, .* s3://"):
        load(init={"artifacts": url})


def test_an_artifact_roots_password_is_masked(home: Path) -> None:
    shown = load(init={"artifacts": "sftp://me:hunter2@host/x"})

    assert "hunter2" not in str(shown.explain()) and "hunter2" not in repr(shown.settings)
    assert "sftp://me:***@host/x" in str(shown.explain())


def test_a_data_folder_is_no_url(home: Path) -> None:
    with pytest.raises(SettingsError, match="it must be a folder"):
        load(init={"data": "s3://bucket/x"})


def test_explain_lists_every_setting_without_passwords(home: Path) -> None:
    resolved = load(init={"store": "postgresql://me:p@ss:w@db.example:5432/runs"})
    rows = {name: (value, source) for name, value, source, _ in resolved.explain()}

    assert list(rows) == list(SETTINGS)
    assert rows["store"] == ("postgresql://me:***@db.example:5432/runs", "init()")
    assert "p@ss" not in repr(resolved)


# Refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("project", ""),
        ("project", "a/b"),
        ("project", "a\n"),
        ("project", 3),
        ("on", "moon"),
        ("on", ""),
        ("store", "https://runs.example"),
        ("store", "mysql://db"),
        ("store", "runs.db"),
        ("data", "a\0b"),
        ("max_workers", -1),
        ("max_workers", 1.5),
        ("max_workers", True),
        ("max_workers", "4"),
        ("max_workers", 10**400),
        ("grace", float("nan")),
        ("grace", float("inf")),
        ("grace", -0.1),
        ("heartbeat", 0),
        ("color", "yes"),
        ("image", "team/train :1"),
        ("package_index", "pypi.example.com"),
        ("package_index", "https://"),
        ("trusted_host", "https://pypi.example.com"),
    ],
)
def test_a_misfitting_value_is_refused_with_alternatives(home: Path, name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as refused:
        load(init={name: value})

    assert str(refused.value).startswith(f"{name} = {value!r} (from init()) does not fit: it must be ")
    assert SETTINGS[name].allowed in str(refused.value)


@pytest.mark.parametrize(("name", "value", "near"), [("on", "locl", "local"), ("color", "allways", "always")])
def test_a_misspelt_choice_names_the_nearest(home: Path, name: str, value: str, near: str) -> None:
    with pytest.raises(
        SettingsError, match=rf"{name} = '{value}' .* does not fit: did you mean '{near}'\? It must be "
    ):
        settings.init(**{name: value})


def test_a_refusal_names_the_source(home: Path) -> None:
    with pytest.raises(SettingsError, match="from --grace"):
        load({"grace": "soon"})
    with pytest.raises(SettingsError, match="from MLFN_GRACE"):
        load(environ={"HOME": str(home), "MLFN_GRACE": "soon"})
    Path("mlfn.toml").write_text('grace = "10"\n')
    with pytest.raises(SettingsError, match=r"deep/mlfn.toml:grace\)"):
        load()


def test_a_refused_stores_password_is_masked(home: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        load(init={"store": "postgres://me:hunter2@db/runs"})

    assert "hunter2" not in str(refused.value)


def test_an_unknown_name_is_refused_with_the_nearest(home: Path) -> None:
    with pytest.raises(SettingsError, match=r"'projct' in init\(\): did you mean 'project'"):
        load(init={"projct": "a"})
    with pytest.raises(SettingsError, match="'MLFN_MAXWORKERS': did you mean 'MLFN_MAX_WORKERS'"):
        load(environ={"HOME": str(home), "MLFN_MAXWORKERS": "1"})
    Path("mlfn.toml").write_text("[secrets]\n")
    with pytest.raises(SettingsError, match=r"'secrets' in .*mlfn.toml:secrets"):
        load()


def test_internal_and_service_variables_are_no_settings(home: Path) -> None:
    environ = {
        "HOME": str(home),
        "MLFN_FAILPOINT": "x",
        "MLFN_SECRETS_FILE": "/x",
        "MLFN_SERVICE_HOST": "10.0.0.1",
        "MLFN_PORT": "tcp://10.0.0.1:80",
        "MLFN_API_SERVICE_PORT_HTTP": "80",
        "MLFN_API_PORT_80_TCP_ADDR": "10.0.0.1",
    }

    assert set(load(environ=environ).sources.values()) == {"default"}


@pytest.mark.parametrize("content", [b"project = ", b"project = '\xff'"])
def test_a_file_that_is_no_toml_is_named(home: Path, content: bytes) -> None:
    Path("mlfn.toml").write_bytes(content)

    with pytest.raises(SettingsError, match=r"Cannot read '.*deep/mlfn.toml'"):
        load()


def test_another_users_file_in_tmp_is_ignored(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path("mlfn.toml").write_text('store = "https://elsewhere.example"\n')
    Path.cwd().chmod(0o1777)
    real = Path.stat

    # A file of another user, which a test cannot make without being root.
    def as_stranger(path: Path, **options: Any) -> os.stat_result:
        info = real(path, **options)
        return os.stat_result([*info[:4], 4242, *info[5:10]]) if path.name == "mlfn.toml" else info

    monkeypatch.setattr(Path, "stat", as_stranger)
    folders._warn_once.cache_clear()

    with caplog.at_level(logging.WARNING):
        assert load().settings.store == ""

    assert "another user" in caplog.text


def test_a_user_without_home_has_settings(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)

    assert load(environ={"MLFN_DATA": "/data"}).settings.data == "/data"
    with pytest.raises(StorageError, match="Set HOME, or MLFN_DATA and XDG_CONFIG_HOME"):
        config_folder({})


# This process -----------------------------------------------------------------------------------------------


def test_init_adds_up_and_none_takes_back(home: Path) -> None:
    settings.init(project="fraud", on="inline")
    settings.init(on=None, grace=1)

    assert (current().project, current().on, current().grace) == ("fraud", "local", 1.0)


def test_an_init_that_is_refused_changes_nothing(home: Path) -> None:
    settings.init(project="fraud")

    with pytest.raises(SettingsError):
        settings.init(project="other", grace="soon")
    with pytest.raises(SettingsError):
        settings.init(projct=None)

    assert current().project == "fraud"


def test_flags_win_over_init(home: Path) -> None:
    settings.use_flags({"on": "inline", "project": None})
    settings.init(on="local", project="fraud")

    assert (current().on, current().project) == ("inline", "fraud")


def test_current_is_the_same_object_while_nothing_changes(home: Path) -> None:
    assert current() is current()


def test_current_follows_the_environment_and_the_working_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "mlfn.toml").write_text('on = "inline"\n')
    (home / "project" / "mlfn.toml").write_text('on = "local"\n')

    assert current().on == "local"
    monkeypatch.chdir(home)
    assert current().on == "inline"
    monkeypatch.setenv("MLFN_ON", "local")
    assert current().on == "local"
    monkeypatch.delenv("MLFN_ON")
    assert current().on == "inline"


def test_current_follows_the_files_within_a_second(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.9, 1.1, 2.0, 2.2])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert current().project == "default"
    Path("mlfn.toml").write_text('project = "new"\n')

    assert [current().project for _ in range(2)] == ["default", "new"]
    Path("mlfn.toml").unlink()
    assert [current().project for _ in range(2)] == ["new", "default"]


def test_current_works_in_a_folder_that_was_removed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = home / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert current().project == "default"
    assert data_folder(current()) == folders.user_data_folder()


def test_current_costs_a_few_lookups(home: Path) -> None:
    def seconds(function: Any) -> float:
        start = time.perf_counter()
        for _ in range(2000):
            function()
        return time.perf_counter() - start

    lookup = min(seconds(lambda: os.environ.get("MLFN_PROJECT")) for _ in range(5))
    ours = min(seconds(current) for _ in range(5))

    print(f"current() {ours / 2000 * 1e6:.1f} us, {ours / lookup:.1f} lookups")
    assert ours < 12 * lookup


def test_the_repr_of_settings_leaves_out_the_store(home: Path) -> None:
    assert "hunter2" not in repr(Settings(store="postgresql://me:hunter2@db/runs"))


# Folders and the key ----------------------------------------------------------------------------------------


def test_the_nearest_data_folder_wins(home: Path) -> None:
    assert data_folder(Settings(), environ={"XDG_DATA_HOME": "/x"}) == Path("/x/mlfn")
    assert home in data_folder(Settings()).parents
    (home / "project" / ".mlfn").mkdir()
    assert data_folder(Settings()) == home / "project" / ".mlfn"
    assert data_folder(Settings(data="/data")) == Path("/data")


def test_a_relative_xdg_folder_is_ignored() -> None:
    assert config_folder({"HOME": "/h", "XDG_CONFIG_HOME": "conf"}) == Path("/h/.config/mlfn")
    assert config_folder({"HOME": "/h", "XDG_CONFIG_HOME": "/conf"}) == Path("/conf/mlfn")
    assert secrets_file({"HOME": "/h"}) == Path("/h/.config/mlfn/secrets.json")
    assert secrets_file({"MLFN_SECRETS_FILE": "/s.json"}) == Path("/s.json")


def test_created_folders_are_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ensure_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)

    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o700, 0o700)


def test_a_folder_that_somebody_shares_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)

    assert mode(ensure_folder(tmp_path)) == 0o770


def test_an_unusable_folder_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        with pytest.raises(StorageError, match=f"'{path}'.*MLFN_DATA=/"):
            ensure_folder(path)

    # A read-only home, which does not bind the tests where they run as root.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(StorageError, match=f"'{tmp_path}': it cannot be written. Set MLFN_DATA=/"):
        ensure_folder(tmp_path)


def test_the_key_is_made_once_and_private(home: Path) -> None:
    before = os.umask(0)
    try:
        key = signing_key()
    finally:
        os.umask(before)

    assert len(key) == 32
    assert signing_key() == key
    assert {path.name for path in config_folder().iterdir()} == {"key", "key.lock"}
    assert (mode(config_folder() / "key"), mode(config_folder())) == (0o600, 0o700)


def test_concurrent_processes_agree_on_one_key(home: Path) -> None:
    program = "import sys; sys.stdin.read(); from mlfn.settings.current import signing_key; print(signing_key().hex())"
    environ = {**os.environ, "PYTHONPATH": str(Path(settings.__file__).parents[2])}
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)
        for _ in range(6)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()  # the starting shot
    keys = {process.stdout.read() for process in started if process.stdout}
    codes = [process.wait(30) for process in started]
    for process in started:
        assert process.stdout is not None
        process.stdout.close()

    assert codes == [0] * 6
    assert keys == {f"{signing_key().hex()}\n".encode()}


def test_the_key_needs_no_hard_links(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)  # exFAT, which a test cannot mount

    assert signing_key() == signing_key()
    assert mode(config_folder() / "key") == 0o600


def test_a_readable_key_is_made_private(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = signing_key()
    (config_folder() / "key").chmod(0o640)

    with caplog.at_level(logging.WARNING):
        assert signing_key() == key

    assert mode(config_folder() / "key") == 0o600
    assert "could be read by others" in caplog.text


def test_a_damaged_key_is_refused(home: Path) -> None:
    signing_key()
    (config_folder() / "key").write_bytes(b"short")

    with pytest.raises(StorageError, match="damaged: 5 bytes, not 32"):
        signing_key()


def test_the_key_never_lies_in_the_data_folder(home: Path) -> None:
    settings.init(data=str(home))

    with pytest.raises(SettingsError, match="within the data folder"):
        signing_key()
    assert not config_folder().exists()


def test_cores_stay_within_one_and_the_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "none").write_text("max 100000\n")

    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert cores._quota(tmp_path / "cpu.max") == 2
    assert cores._quota(tmp_path / "none") is None
