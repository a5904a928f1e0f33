"""What Nuclio's processor is started with on this machine, and what is said of its end; without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mlfn
from mlfn.backends.hosts.engine import engine_of
from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.backends.places.base import PlaceConfig
from mlfn.errors import OptionError
from mlfn.serving.engine import files
from mlfn.serving.engine.keeper import free_port, last_words
from mlfn.serving.front import remove_sockets
from tests.unit.backends.test_nuclio import CASES, planned


def config(folder: Path) -> PlaceConfig:
    processor = folder / "processor"
    processor.touch()
    return PlaceConfig("client", folder, {}, b"key", folder / "secrets", 1, False, 2.0, 1.0, processor=str(processor))


def options(folder: Path, name: str, **more: object) -> ServerOptions:
    (folder / "_nuclio_wrapper.py").touch()
    kind, plan = CASES[name]
    engine = engine_of(planned(kind, **plan), kind, config(folder))
    return ServerOptions("score", "fraud", "0", {}, engine=engine, **more)  # type: ignore[arg-type]


def test_the_configuration_is_the_functions_own_at_this_machines_address(tmp_path: Path) -> None:
    made = files.configured(options(tmp_path, "full"), port=4321, workers=3)

    spec = made["spec"]
    assert (spec["triggers"]["http"]["url"], spec["triggers"]["http"]["numWorkers"]) == ("127.0.0.1:4321", 3)
    assert (spec["handler"], spec["eventTimeout"]) == ("mlfn_handler:handler", "35s")
    # What a cluster needs, or a builder, is not this machine's.
    assert not {"build", "image", "env", "resources", "serviceAccount"} & set(spec)


def test_a_function_without_requests_can_be_asked_all_the_same(tmp_path: Path) -> None:
    engine = options(tmp_path, "brokers").engine
    assert engine is not None

    assert engine["http"] == "default-http"
    assert engine["others"] == 7
    assert engine["slots"]["default-http"] == 0 and engine["slots"]["kafka-cluster"] == 256


def test_passwords_are_in_the_configuration_until_it_is_read(tmp_path: Path) -> None:
    given = options(tmp_path, "brokers", passwords={"mqtt": "sesame", "kafka-cluster": "open"})

    files.write(tmp_path, given, port=4321, workers=1)
    triggers = json.loads((tmp_path / files.CONFIGURATION).read_bytes())["spec"]["triggers"]
    assert triggers["mqtt"]["password"] == "sesame"
    assert triggers["kafka-cluster"]["attributes"]["sasl"]["password"] == "open"
    assert (tmp_path / files.CONFIGURATION).stat().st_mode & 0o777 == 0o600
    files.remove_secrets(tmp_path)
    assert not any(b"sesame" in path.read_bytes() for path in tmp_path.iterdir())


def test_its_administration_is_off(tmp_path: Path) -> None:
    files.write(tmp_path, options(tmp_path, "plain"), port=4321, workers=1)

    platform = json.loads((tmp_path / files.PLATFORM).read_bytes())
    assert (platform["webAdmin"], platform["healthCheck"]) == ({"enabled": False}, {"enabled": False})


def test_workers_get_events_undecoded_and_the_folder_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")  # by which the processor would take this for a cluster

    found = files.environment(tmp_path, options(tmp_path, "plain"), "{}")

    assert found["NUCLIO_PYTHON_DECODE_EVENT_STRINGS"] == "no"
    assert found["MLFN_SERVICE_FOLDER"] == found["NUCLIO_PYTHON_PATH"] == str(tmp_path)
    assert "KUBERNETES_SERVICE_HOST" not in found


def test_a_wrapper_that_is_not_there_is_named(tmp_path: Path) -> None:
    kind, _ = CASES["plain"]

    with pytest.raises(OptionError, match=r"_nuclio_wrapper\.py, the wrapper of the processor .*MLFN_NUCLIO_WRAPPER"):
        engine_of(planned(kind), kind, config(tmp_path))


def test_an_address_that_it_cannot_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mlfn.errors.ServiceError, match="listens at addresses of IPv4 alone"):
        free_port(options(tmp_path, "plain", host="::1"))


@pytest.mark.parametrize("module", ["msgpack", "nuclio_sdk"])
def test_a_python_without_what_the_wrapper_needs_is_told(module: str) -> None:
    said = f"\x1b[33mwarning\x1b[0m\nModuleNotFoundError: No module named '{module}'\ngoroutine 1 [running]:\nmain()"

    words = last_words(said, 2)

    assert words.startswith("warning\n") and "goroutine" not in words
    assert (
        f"ended by exit code 2.\nIts Python lacks {module}, which Nuclio's wrapper needs: pip install msgpack" in words
    )


def test_a_signal_is_named() -> None:
    assert last_words("", -9) == "It said nothing.\nThe processor ended by signal SIGKILL."


def test_the_files_of_connected_sockets_are_removed(tmp_path: Path) -> None:
    paths = [tmp_path / "event.sock", tmp_path / "control.sock", tmp_path / "other"]
    for path in paths:
        path.touch()

    remove_sockets(
        ["wrapper", "--event-socket-path", str(paths[0]), "--control-socket-path", str(paths[1]), str(paths[2])]
    )

    assert [path.exists() for path in paths] == [False, False, True]
