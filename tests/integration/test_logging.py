"""`logging` as the script has set it up holds in its runs, and is seen in their logs."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mlfn

log = logging.getLogger("train")


@mlfn.function
def speak(ctx: mlfn.Context) -> None:
    log.debug("a debug line")
    log.info("epoch 1 done")
    log.warning("a warning")
    ctx.logger.info("of the run")


@pytest.fixture
def script() -> Iterator[Callable[..., list[str]]]:
    """Give the test loggers that it may set up, and what a run writes then."""
    loggers = [logging.root, *(logging.getLogger(name) for name in ("train", "urllib3", "optuna", "noisy"))]
    before = [(logger, logger.level, logger.handlers[:], logger.propagate) for logger in loggers]

    def lines() -> list[str]:
        run = speak.submit()
        run.result(timeout=30)
        return run.logs().splitlines()

    yield lines
    logging.disable(logging.NOTSET)
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:], logger.propagate = handlers, propagate


def to(
    stream: object, *, level: int = logging.NOTSET, form: str = "%(levelname)s:%(name)s:%(message)s"
) -> logging.Handler:
    handler = logging.StreamHandler(stream)  # type: ignore[type-var]
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(form))
    return handler


def test_a_script_with_basic_config_has_its_lines_in_the_log(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import logging\n"
        "import mlfn\n"
        "logging.basicConfig(level=logging.INFO, format='{levelname}! {message}', style='{')\n"
        "log = logging.getLogger(__name__)\n"
        "@mlfn.function\n"
        "def train() -> None:\n"
        "    log.debug('too much')\n"
        "    log.info('epoch 1 done')\n"
        "    logging.info('by the root')\n"
        "if __name__ == '__main__':\n"
        "    run = train.submit()\n"
        "    run.result(timeout=30)\n"
        "    print(run.logs(), end='')\n"
    )

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)

    assert done.stdout == "INFO! epoch 1 done\nINFO! by the root\n"


def test_a_logger_of_its_own_keeps_level_handler_and_propagation(local, script):
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(to(sys.stdout, level=logging.INFO))

    lines = script()

    assert lines[:2] == ["INFO:train:epoch 1 done", "WARNING:train:a warning"]
    assert lines[2].endswith("INFO of the run")


def test_levels_and_handlers_hold_without_each_other(local, script):
    logging.root.setLevel(logging.INFO)

    assert script()[0] == "a warning"  # as in the script: without a handler logging writes warnings alone

    log.addHandler(to(sys.stderr))
    assert script()[:2] == ["INFO:train:epoch 1 done", "WARNING:train:a warning"]


def test_a_change_between_two_submits_is_seen(local, script):
    logging.root.addHandler(to(sys.stderr))
    assert script()[0] == "WARNING:train:a warning"

    logging.root.setLevel(logging.DEBUG)
    assert script()[0] == "DEBUG:train:a debug line"

    logging.disable(logging.INFO)
    assert script() == ["WARNING:train:a warning"]


def test_lines_for_a_file_are_in_the_log_and_not_in_the_file(local, script, tmp_path):
    file = logging.FileHandler(tmp_path / "train.log")
    file.setFormatter(logging.Formatter("for the file: %(message)s"))
    log.addHandler(file)

    assert script()[0] == "for the file: a warning"
    assert (tmp_path / "train.log").read_text() == ""

    log.addHandler(to(sys.stderr))
    assert script()[0] == "WARNING:train:a warning"  # once, where a handler shows it on the console too
    file.close()


def test_a_format_that_needs_fields_of_the_scripts_own_is_replaced(local, script):
    log.addHandler(to(sys.stderr, form="%(request)s %(message)s"))

    assert script()[0].endswith("WARNING train a warning")


def test_a_stream_of_the_scripts_own_stays_there(local, script):
    stream = io.StringIO()
    log.addHandler(to(stream))

    assert script()[0] != "WARNING:train:a warning"
    assert stream.getvalue() == ""


def test_of_an_installed_package_the_level_alone_goes_along(local, script):
    logging.root.addHandler(to(sys.stderr))
    logging.getLogger("urllib3").setLevel(logging.ERROR)

    @mlfn.function
    def call() -> None:
        logging.getLogger("urllib3").warning("quiet")
        logging.getLogger("urllib3").error("loud")

    run = call.submit()
    run.result(timeout=30)

    assert run.logs() == "ERROR:urllib3:loud\n"


def test_where_nothing_is_set_up_the_plan_says_nothing_of_it(tmp_path: Path) -> None:
    # In a process of its own: what a test's libraries set up is set up.
    script = tmp_path / "quiet.py"
    script.write_text(
        "import mlfn\n"
        "from mlfn.dispatch.session import current_session\n"
        "@mlfn.function\n"
        "def f() -> int: return 1\n"
        "if __name__ == '__main__':\n"
        "    run = f.submit()\n"
        "    run.result(timeout=30)\n"
        "    print(current_session().store.get_plan(run.record.plan).workspace.logging)\n"
    )

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "{}\n"
