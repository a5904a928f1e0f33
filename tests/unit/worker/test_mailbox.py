"""Messages from a place to its worker, some of which the place recalls."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlfn.worker.control import Control, answer_line
from mlfn.worker.mailbox import PACKETS, TaskReceiver, TaskSender, pack_message, unpack_message

LONG = {"run": "x" * 100_000}


class Post:
    """A place and its worker in one process, and what lies between them."""

    def __init__(self, folder: Path) -> None:
        sending, packets = socket.socketpair(socket.AF_UNIX, PACKETS)
        self.place, worker = socket.socketpair()
        self.sockets = (sending, packets, self.place, worker)
        self.tasks = TaskSender(sending, packets, folder)
        self.control = Control(worker)
        self.receiver = TaskReceiver(packets, self.control)


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    made = Post(tmp_path)
    yield made
    for end in made.sockets:
        end.close()


@pytest.mark.parametrize("task", [{"run": "1"}, LONG], ids=["short", "in a file"])
def test_a_task_arrives_whole_and_leaves_no_file(post: Post, task: dict[str, str], tmp_path: Path) -> None:
    post.tasks.send(task)

    assert post.receiver.receive() == task
    assert list(tmp_path.iterdir()) == []


def test_a_recalled_run_never_reaches_the_worker(post: Post) -> None:
    for task in ({"run": "1"}, LONG, {"run": "3"}):
        post.tasks.send(task)
    post.receiver.receive()

    assert post.tasks.recall() == [LONG, {"run": "3"}]
    post.tasks.send({"run": "4"})
    assert post.receiver.receive() == {"run": "4"}


def test_no_run_is_read_after_closing(post: Post) -> None:
    post.tasks.send({"run": "1"})
    post.place.close()

    assert post.receiver.receive() is None


def test_old_answers_do_not_reach_later_runs(post: Post) -> None:
    post.place.send(answer_line("1", "too slow"))
    post.tasks.send({"run": "2"})

    assert post.receiver.receive() == {"run": "2"}
    post.place.send(answer_line("2", None))
    assert post.control.answer("2") is None


def test_a_binding_precedes_answers(post: Post, tmp_path: Path) -> None:
    post.place.sendall(pack_message({"plan": "p" * 100_000}, tmp_path) + b"\n" + answer_line("1", "why"))

    binding = post.control.binding()

    assert binding is not None and unpack_message(binding) == {"plan": "p" * 100_000}
    assert post.control.answer("1") == "why"


def test_answers_to_other_runs_are_passed_over(post: Post) -> None:
    post.place.send(answer_line("0", "old") + answer_line("1", "worse than the median"))

    assert post.control.answer("1") == "worse than the median"


def test_a_closed_place_binds_and_answers_nothing(post: Post) -> None:
    post.place.send(json.dumps(["1"]).encode())
    post.place.close()

    assert post.control.binding() is None
    assert post.control.answer("1") is None
