"""A notebook whose cells are run one by one in a real kernel, as nbclient, nbconvert and papermill do."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from tests.architecture.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Notebook:
    """A document and its kernel."""

    def __init__(self, client: NotebookClient) -> None:
        self.client = client
        self.document = client.nb

    def run(self, source: str) -> Any:
        """Run a new cell at the end of the document; raise what it raises."""
        cell = nbformat.v4.new_code_cell(source)
        self.document.cells.append(cell)
        return self.client.execute_cell(cell, len(self.document.cells) - 1)

    def value(self, source: str) -> str:
        """Run a new cell and return the text of its value."""
        return text(self.run(source))

    def next_message(self) -> dict[str, Any]:
        """Return what the kernel published next, while no cell runs."""
        message: dict[str, Any] = self.client.kc.iopub_channel.get_msg(timeout=30)
        return message


def ansi_free(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def text(cell: Any) -> str:
    return "".join(output.data["text/plain"] for output in cell.outputs if "data" in output)


def html(cell: Any) -> str:
    return "".join(output.data.get("text/html", "") for output in cell.outputs if "data" in output)


def printed(cell: Any, stream: str = "stdout") -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == stream)


def environment(folder: Path) -> dict[str, str]:
    """Return what a kernel of its own world gets as its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFN_", "XDG_"))}
    return {
        **kept,
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "MLFN_DATA": str(folder / "data"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


@contextmanager
def notebook(folder: Path, document: Any = None) -> Iterator[Notebook]:
    """Start a kernel in `folder`, and shut it down at the end."""
    # Sockets in the folder instead of ports; their paths must be short.
    manager = KernelManager(
        kernel_name="python3",
        transport="ipc",
        ip=str(folder / "k"),
        connection_file=str(folder / "kernel.json"),
    )
    manager.kernel_spec.argv[0] = sys.executable
    client = NotebookClient(document or nbformat.v4.new_notebook(), km=manager, timeout=120)
    with client.setup_kernel(env=environment(folder), cwd=str(folder), cleanup_kc=True):
        yield Notebook(client)
