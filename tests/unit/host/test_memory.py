from __future__ import annotations

import os

from mlfn.host import memory


def test_process_and_machine_have_memory():
    assert memory.resident_memory(os.getpid()) > 1 << 20
    assert memory.available_memory() > 1 << 20


def test_a_process_that_is_gone_has_none():
    assert memory.resident_memory(2**22 + 1) == 0


def test_a_container_has_what_its_own_limit_leaves(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    monkeypatch.setattr(memory, "_GROUP", f"{tmp_path}/memory.")
    assert memory.available_memory() == 3000


def test_an_unlimited_container_has_the_machines_memory(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("2000\n")
    monkeypatch.setattr(memory, "_GROUP", f"{tmp_path}/memory.")
    assert memory.available_memory() > 1 << 20
