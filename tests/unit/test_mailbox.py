"""Messages from a place to its worker, some of which the place takes back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlfn.worker.mailbox import PACKETS, Inbox, Outbox
from mlfn.worker.verdicts import Verdicts


class Post:
    """A place and its worker in one process, and what lies between them."""

    def __init__(self, folder: Path) -> None:
        giving, packets = socket.socketpair(socket.AF_UNIX, PACKETS)
        self.control, theirs = socket.socketpair()
        self.sockets = (giving, packets, self.control, theirs)
        self.folder = folder
        self.outbox = Outbox(giving, packets, folder)
        self.inbox = Inbox(packets, theirs, Verdicts(theirs))

    def send(self, *ops: str, **more: Any) -> None:
        for op in ops:
            self.outbox.send({"op": op, **({"folder": str(self.folder)} if op == "settle" else {}), **more})

    def received(self, count: int) -> list[str]:
        return [str((self.inbox.receive() or {})["op"]) for _ in range(count)]


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    made = Post(tmp_path)
    yield made
    for end in made.sockets:
        end.close()


def test_what_a_worker_needs_before_all_runs_stays_there_when_runs_are_taken_back(post: Post) -> None:
    post.send("settle", "bind", "run")

    assert [message["op"] for message in post.outbox.take_back()] == ["run"]
    post.send("run")

    assert post.received(3) == ["settle", "bind", "run"]


@pytest.mark.parametrize("more", [{}, {"text": "x" * 100_000}], ids=["short", "in a file"])
@pytest.mark.parametrize("arrived", [("bind", "run", "settle"), ("run", "settle", "bind")])
def test_what_the_place_had_in_its_hands_when_the_worker_read_comes_first_all_the_same(
    post: Post, arrived: tuple[str, ...], more: dict[str, str]
) -> None:
    for op in arrived:
        post.send(op, **(more if op != "settle" else {}))

    assert post.received(3) == ["settle", "bind", "run"]
    assert list(post.folder.iterdir()) == []


def test_nothing_is_read_once_the_place_has_hung_up(post: Post) -> None:
    post.send("bind", "settle")
    post.control.close()

    assert post.inbox.receive() is None
