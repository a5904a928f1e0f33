"""A kind of a package of its own passes the suite of kind x place: each handler in a process that a command starts."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

import mlfn
from mlfn.testing.kind_place import KindPlaceContract, Mark
from tests import kinds
from tests.kind_places import JobOnLocal
from tests.packages import installed

ENTRY_POINTS = "[mlfn.kinds]\nnice = many_kinds.nice_kind:Nice\nranks = many_kinds.ranks_kind:Ranks\n"


@pytest.fixture(autouse=True)
def many_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = Path(kinds.__file__).parent
    modules = {path.stem: path.read_text() for path in folder.glob("*_kind.py")}
    with installed(tmp_path, "many_kinds", ENTRY_POINTS, modules) as site:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
        yield


HANDLERS = """
from __future__ import annotations
from typing import TYPE_CHECKING
import mlfn

if TYPE_CHECKING:
    from many_kinds.nice_kind import Niceness

@mlfn.function
def injected(nice: Niceness, n: int) -> tuple[str, int]:
    return type(nice).__name__, n
"""


class NiceOnLocal(JobOnLocal):
    kind: Any = "nice"
    EXPECTED: ClassVar[Mapping[str, Mark]] = {**JobOnLocal.EXPECTED}

    def injecting(self) -> tuple[mlfn.Function[..., Any, Any], str]:
        (self.work / "nice_handlers.py").write_text(HANDLERS)
        function = importlib.import_module("nice_handlers").injected
        return function.with_options(kind=self.kind).on(self.on), "Niceness"

    def teardown_method(self) -> None:
        super().teardown_method()
        sys.modules.pop("nice_handlers", None)


class TestNiceOnLocal(NiceOnLocal, KindPlaceContract): ...
