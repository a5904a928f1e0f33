"""A planted secret is nowhere that it was not meant for: store, logs, artifacts, payloads, folders, processes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.errors import MlfnError, OptionError, RemoteError, SecretNotFoundError
from mlfn.settings import current as settings
from mlfn.settings.masking import Masker
from mlfn.settings.secrets import write_secret

FROM_ENV = "planted-in-the-environment-7f3a"
FROM_FILE = "planted/in+the file?9c1e"
PLACES = ["inline", "local"]

BOTH = [mlfn.Secret("S3_KEY"), mlfn.Secret("db", key="password", env="DB_PASSWORD")]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_KEY", FROM_ENV)
    write_secret("db", FROM_FILE, settings.secrets_file(), key="password")


class Leaky(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.held = {"password": text}


def show(ctx: mlfn.Context, *, fail: bool) -> list[int]:
    """Does with its secrets all that it should not."""
    both = [ctx.secret("S3_KEY"), ctx.secret("password")]
    for value in both:
        print("printed", value)
        print("to stderr", value, file=sys.stderr)
        os.system(f"echo 'from a child: {value}'")
        ctx.logger.info("logged %s", value)
        for _ in ctx.progress(range(2), text=f"with {value}"):
            pass
    assert os.environ["DB_PASSWORD"] == both[1]
    if fail:
        try:
            raise KeyError(both[0])
        except KeyError as error:
            raise Leaky(f"refused for {both[1]}") from error
    return [len(value) for value in both]


def places_that_hold(value: str, folder: Path) -> list[str]:
    """Return the files below the folder in which the value stands, in any of the forms that are masked."""
    masker = Masker([value])
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != settings.secrets_file():
            data = path.read_bytes()
            if masker.bytes(data) is not data:
                found.append(str(path))
    return found


def processes_that_hold(value: str) -> list[str]:
    """Return the files of other processes, command line and environment, in which the value stands."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) != os.getpid():
            for name in ("cmdline", "environ"):
                try:
                    data = (process / name).read_bytes()
                except OSError:
                    continue  # it ended, or is another user's
                if value.encode() in data:
                    found.append(f"{process.name}/{name}")
    return found


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fail", [False, True], ids=["succeeds", "fails"])
def test_a_planted_secret_is_found_nowhere(place: str, fail: bool, home: Path) -> None:
    function = mlfn.function(secrets=BOTH)(show).on(place)
    held_before = {value: processes_that_hold(value) for value in (FROM_ENV, FROM_FILE)}

    run = function.submit(fail=fail)

    assert run.wait(60)
    for value in (FROM_ENV, FROM_FILE):
        assert places_that_hold(value, home) == []
        assert processes_that_hold(value) == held_before[value]
        shown = [run.error, run.logs(), run.progress, function.spec, function.plan(fail=fail), repr(run.exception())]
        assert all(value not in str(item) for item in shown)
    if fail:
        error = run.exception()
        assert type(error) is Leaky and error.args == ("refused for ***",)
        assert error.held == {"password": "refused for ***"}
        assert "Leaky: refused for ***" in str(run.error) and "KeyError" in str(run.error)
        assert "in show" in str(run.error)
    else:
        assert run.result() == [len(FROM_ENV), len(FROM_FILE)]
    if place == "local":
        assert "printed ***" in run.logs() and "from a child: ***" in run.logs() and "logged ***" in run.logs()
    assert os.environ.get("DB_PASSWORD") is None


@pytest.mark.usefixtures("planted")
def test_the_search_would_find_it(home: Path) -> None:
    (home / "leak.txt").write_text(f"x{FROM_ENV}y")

    assert places_that_hold(FROM_ENV, home) == [str(home / "leak.txt")]


@pytest.mark.usefixtures("planted")
def test_an_exception_without_secret_comes_back() -> None:
    @mlfn.function(secrets=BOTH)
    def fail() -> None:
        raise LookupError("nothing to hide")

    for place in PLACES:
        with pytest.raises(LookupError, match="nothing to hide"):
            fail.on(place).submit().result(timeout=60)


class Holder:
    def __init__(self, value: str) -> None:
        self.value = value


class Coded(Exception):
    def __init__(self, code: int, *, token: str) -> None:
        super().__init__(code, f"refused {token}")
        self.tokens = [{"token": token, "at": 1.5}, (b"raw " + token.encode(), None)]


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("place", PLACES)
def test_an_exception_with_secret_comes_back_masked(place: str) -> None:
    @mlfn.function(secrets=["S3_KEY"])
    def fail(how: str, ctx: mlfn.Context) -> None:
        value = ctx.secret("S3_KEY")
        if how == "plain":
            raise ValueError("tok " + value)
        if how == "os":
            raise FileNotFoundError(2, "No such file", f"/tmp/{value}")
        raise Coded(7, token=value)

    with pytest.raises(ValueError, match=r"^tok \*\*\*$") as caught:
        fail.on(place).submit("plain").result(timeout=60)
    assert type(caught.value) is ValueError
    missing = fail.on(place).submit("os").exception(timeout=60)
    assert type(missing) is FileNotFoundError and (missing.errno, missing.filename) == (2, "/tmp/***")
    coded = fail.on(place).submit("coded").exception(timeout=60)
    assert type(coded) is Coded and coded.args == (7, "refused ***")
    assert coded.tokens == [{"token": "***", "at": 1.5}, (b"raw ***", None)]


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("place", PLACES)
def test_a_secret_in_an_object_leaves_text_only(place: str, home: Path) -> None:
    @mlfn.function(secrets=["S3_KEY"])
    def fail(ctx: mlfn.Context) -> None:
        raise ValueError("refused", Holder(ctx.secret("S3_KEY")))

    with pytest.raises(RemoteError, match=r"ended with builtins\.ValueError: "):
        fail.on(place).submit().result(timeout=60)
    assert places_that_hold(FROM_ENV, home) == []


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("place", PLACES)
def test_a_run_gets_only_named_secrets(place: str) -> None:
    @mlfn.function(secrets=["S3_KEY"])
    def other() -> None: ...

    @mlfn.function(secrets=[mlfn.Secret("db", key="password")])
    def names_one(ctx: mlfn.Context) -> Any:
        try:
            return ctx.secret("password"), ctx.secret("S3_KEY")
        except SecretNotFoundError as error:
            return str(error)

    run = names_one.on(place).submit()

    assert "No secret 'S3_KEY' here" in run.result(timeout=60)


@pytest.mark.usefixtures("planted")
def test_workers_inherit_no_unnamed_secret() -> None:
    @mlfn.function(secrets=["S3_KEY"])
    def names_it(ctx: mlfn.Context) -> bool:
        return ctx.secret("S3_KEY") == FROM_ENV and "S3_KEY" not in os.environ

    @mlfn.function
    def names_none() -> Any:
        return os.environ.get("S3_KEY"), Path(f"/proc/{os.getpid()}/environ").read_bytes().count(b"S3_KEY")

    assert names_none.submit().result(timeout=60) == (None, 0)
    assert names_it.submit().result(timeout=60) is True


def test_a_changed_secret_reaches_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    @mlfn.function(secrets=["API_KEY"])
    def read(ctx: mlfn.Context) -> int:
        return len(ctx.secret("API_KEY"))

    for value in ("first-value", "second-value-longer"):
        monkeypatch.setenv("API_KEY", value)
        assert read.submit().result(timeout=60) == len(value)


@pytest.mark.parametrize("place", PLACES)
def test_submit_refuses_a_secret_without_value(place: str) -> None:
    @mlfn.function(secrets=["nowhere"])
    def read(n: int = 1) -> None: ...

    with pytest.raises(SecretNotFoundError, match="mlfn secret set nowhere"):
        read.on(place).submit()
    with pytest.raises(SecretNotFoundError, match="mlfn secret set nowhere"):
        read.on(place).grid(n=[1, 2]).submit()
    assert len(mlfn.runs()) == 0


def test_a_rerun_needs_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    @mlfn.function(secrets=["API_KEY"])
    def read(n: int = 1) -> None: ...

    monkeypatch.setenv("API_KEY", "first-value")
    run = read.on("inline").submit()
    monkeypatch.delenv("API_KEY")

    with pytest.raises(SecretNotFoundError, match="mlfn secret set API_KEY"):
        run.rerun(n=2)


def test_an_inline_run_gives_the_environment_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "sesame-sesame")
    monkeypatch.setenv("MODE", "before")

    @mlfn.function(secrets=[mlfn.Secret("TOKEN", env="EXPORTED")], env={"MODE": "during", "NEW": "1"})
    def read(fail: bool) -> Any:
        if fail:
            raise ValueError
        return os.environ["EXPORTED"] == "sesame-sesame", os.environ["MODE"], os.environ["NEW"]

    assert read.on("inline").submit(fail=False).result() == (True, "during", "1")
    assert read.on("inline").submit(fail=True).state == "failed"
    assert os.environ["MODE"] == "before" and "NEW" not in os.environ and "EXPORTED" not in os.environ


def test_a_value_as_name_is_refused_unseen() -> None:
    with pytest.raises(OptionError) as refused:
        mlfn.function(secrets=[f"{FROM_FILE}!"])

    assert isinstance(refused.value, MlfnError) and FROM_FILE not in str(refused.value)


def test_masking_keeps_up_with_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_KEY", FROM_ENV)

    @mlfn.function(secrets=["S3_KEY"])
    def flood(ctx: mlfn.Context) -> int:
        for _ in range(20_000):
            print("line with", ctx.secret("S3_KEY"))
        return 20_000

    begun = time.monotonic()
    run = flood.submit()

    assert run.result(timeout=60) == run.logs().count("line with ***\n") == 20_000
    assert time.monotonic() - begun < 60
