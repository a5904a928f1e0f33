"""Where the modules and names of mlfn 0.1 are now: stored pickles and the users' modules beside them name the former ones.

A payload names classes and functions of mlfn by their modules, as pickle does, and a module of the user that travels as
text may import them. Standard library alone: this file travels to the worker.
"""

from __future__ import annotations

import importlib
import pickle
import sys
import types
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from typing import Any

# Former module -> module. Pickles name the home of a class or function, and also any module whose name was an attribute in the
# code of a function that used `mlfn`: `run.outputs` named mlfn.outputs.
NOW_AT = {
    "mlfn.artifacts": "mlfn.artifacts.store",
    "mlfn.backlog": "mlfn.dispatch.queue",
    "mlfn.capture": "mlfn.code.capture",
    "mlfn.cards": "mlfn.ui.html.cards",
    "mlfn.children": "mlfn.handles.children",
    "mlfn.cli": "mlfn.ui.cli",
    "mlfn.client": "mlfn.dispatch.session",
    "mlfn.codec": "mlfn.artifacts.codec",
    "mlfn.content": "mlfn.artifacts.content",
    "mlfn.declaration": "mlfn.functions.declaration",
    "mlfn.dispatch": "mlfn.dispatch.dispatcher",
    "mlfn.execution": "mlfn.worker.execution",
    "mlfn.failpoints": "mlfn.host.failpoints",
    "mlfn.failures": "mlfn.handles.remote_errors",
    "mlfn.fitting": "mlfn.worker.fitting",
    "mlfn.handle": "mlfn.handles.run",
    "mlfn.hearing": "mlfn.dispatch.outbox",
    "mlfn.hints": "mlfn.worker.context",
    "mlfn.identity": "mlfn.host.identity",
    "mlfn.inline": "mlfn.dispatch.in_caller",
    "mlfn.inputs": "mlfn.spec.data_item",
    "mlfn.kinds": "mlfn.backends.kinds",
    "mlfn.kinds.job": "mlfn.backends.kinds.job",
    "mlfn.leaving": "mlfn.dispatch.shutdown",
    "mlfn.library": "mlfn.functions.library",
    "mlfn.library.cleanup": "mlfn.dispatch.garbage_collection",
    "mlfn.library.differences": "mlfn.functions.library.diff",
    "mlfn.listing": "mlfn.handles.finders",
    "mlfn.masker": "mlfn.settings.masking",
    "mlfn.notebook": "mlfn.ui.notebook",
    "mlfn.outputs": "mlfn.handles.outputs",
    "mlfn.packers": "mlfn.artifacts.formats",
    "mlfn.parents": "mlfn.dispatch.dependencies",
    "mlfn.payload": "mlfn.code.payload",
    "mlfn.payload.parcel": "mlfn.code.bundle",
    "mlfn.places": "mlfn.backends.places",
    "mlfn.planner": "mlfn.dispatch.planner",
    "mlfn.private_files": "mlfn.host.private_files",
    "mlfn.recording": "mlfn.dispatch.outbox",
    "mlfn.registry": "mlfn.backends.registry",
    "mlfn.remains": "mlfn.dispatch.recovery",
    "mlfn.secrets": "mlfn.settings.secrets",
    "mlfn.settings": "mlfn.settings.current",
    "mlfn.settings.layers": "mlfn.settings.sources",
    "mlfn.settings.table": "mlfn.settings.declarations",
    "mlfn.signature": "mlfn.dispatch.signature",
    "mlfn.snapshot": "mlfn.ui.views.run",
    "mlfn.spec.text": "mlfn.spec.yaml_text",
    "mlfn.store.damage": "mlfn.store.sql.queries.integrity",
    "mlfn.store.engine": "mlfn.store.sql.engine",
    "mlfn.store.families": "mlfn.store.sweeps",
    "mlfn.store.nesting": "mlfn.store.sql.commands.nesting",
    "mlfn.store.postgres": "mlfn.store.sql.postgres",
    "mlfn.store.reading": "mlfn.store.queries",
    "mlfn.store.session": "mlfn.store.sql.connection",
    "mlfn.store.sqlite": "mlfn.store.sql.sqlite",
    "mlfn.submission": "mlfn.dispatch.submit",
    "mlfn.sweep.ask_tell": "mlfn.sweep.strategies.ask_tell",
    "mlfn.sweep.body": "mlfn.sweep.spec",
    "mlfn.sweep.cells": "mlfn.sweep.strategies.cells",
    "mlfn.sweep.checking": "mlfn.sweep.controller.stored_checks",
    "mlfn.sweep.child": "mlfn.sweep.results.child",
    "mlfn.sweep.comparing": "mlfn.sweep.results.compare",
    "mlfn.sweep.condition": "mlfn.sweep.conditions.tree",
    "mlfn.sweep.conduct": "mlfn.sweep.controller.ownership",
    "mlfn.sweep.crew": "mlfn.sweep.controller.executors",
    "mlfn.sweep.drawn": "mlfn.sweep.strategies.random",
    "mlfn.sweep.driver": "mlfn.sweep.controller.driver",
    "mlfn.sweep.encoding": "mlfn.sweep.params.encoding",
    "mlfn.sweep.ending": "mlfn.sweep.controller.completion",
    "mlfn.sweep.given": "mlfn.sweep.strategies.iterable",
    "mlfn.sweep.grammar": "mlfn.sweep.conditions.grammar",
    "mlfn.sweep.grid": "mlfn.sweep.strategies.grid",
    "mlfn.sweep.listing": "mlfn.sweep.params.listed",
    "mlfn.sweep.normal": "mlfn.sweep.spaces.normal",
    "mlfn.sweep.param_file": "mlfn.sweep.params.files",
    "mlfn.sweep.parquet": "mlfn.sweep.results.parquet",
    "mlfn.sweep.picture": "mlfn.sweep.results.parallel_coordinates",
    "mlfn.sweep.placing": "mlfn.sweep.params.paths",
    "mlfn.sweep.plots": "mlfn.sweep.results.plots",
    "mlfn.sweep.points": "mlfn.sweep.spaces.points",
    "mlfn.sweep.rows": "mlfn.sweep.strategies.rows",
    "mlfn.sweep.scales": "mlfn.sweep.results.scales",
    "mlfn.sweep.scoreboard": "mlfn.sweep.controller.scoreboard",
    "mlfn.sweep.selection": "mlfn.sweep.results.selection",
    "mlfn.sweep.space": "mlfn.sweep.spaces.distributions",
    "mlfn.sweep.standing": "mlfn.sweep.results.standing",
    "mlfn.sweep.submitting": "mlfn.sweep.submit",
    "mlfn.sweep.sweep_run": "mlfn.sweep.handle",
    "mlfn.sweep.table": "mlfn.sweep.results.table",
    "mlfn.sweep.zipped": "mlfn.sweep.strategies.zip",
    "mlfn.sweep_cards": "mlfn.ui.html.cards",
    "mlfn.sweep_lines": "mlfn.ui.terminal.sweep_lines",
    "mlfn.sweep_snapshot": "mlfn.ui.views.sweep",
    "mlfn.terminal": "mlfn.ui.terminal.progress",
    "mlfn.ticket": "mlfn.dispatch.inflight",
    "mlfn.user_context": "mlfn.worker.context",
    "mlfn.verdict": "mlfn.dispatch.retry_policy",
    "mlfn.version": "mlfn.handles.version",
    "mlfn.waiting": "mlfn.dispatch.hooks",
    "mlfn.worker.launch": "mlfn.backends.places.local.fork_server",
    "mlfn.worker.masking": "mlfn.worker.log_masking",
    "mlfn.worker.output": "mlfn.worker.log_capture",
    "mlfn.worker.serve": "mlfn.worker.loop",
}
# Modules that were split off another, of which one keeps the name.
_SPLIT_OFF = {"mlfn.sweep.choosers": "mlfn.sweep.description", "mlfn.sweep.options": "mlfn.sweep.description"}
# Functions and classes with another name today: (former module, former name) -> (module, name).
RENAMED = {
    ("mlfn.payload.parcel", "open_parcel"): ("mlfn.code.bundle", "open_bundle"),
}
_FORMER_MODULES = {now: former for former, now in NOW_AT.items()} | _SPLIT_OFF
_FORMER_NAMES = {now: former for former, now in RENAMED.items()}


def find(module: str, name: str) -> Any:
    """Return what `name` of a module was called or is called, from where it is now."""
    now_at, name = RENAMED.get((module, name), (NOW_AT.get(module, module), name))
    return getattr(importlib.import_module(now_at), name)


def former_name(module: str, qualname: str) -> tuple[str, str]:
    """Return the module and name that stand for a class or function of mlfn in hashes: those it was first hashed with."""
    return _FORMER_NAMES.get((module, qualname), (_FORMER_MODULES.get(module, module), qualname))


class FormerNamesUnpickler(pickle.Unpickler):
    """Reads pickles that may hold former names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function that a pickle names."""
        if module in NOW_AT or (module, name) in RENAMED:
            return find(module, name)
        return super().find_class(module, name)


class FormerModuleFinder:
    """Finds a module of mlfn by its former name, for code that imports it as text."""

    @classmethod
    def install(cls) -> None:
        """Append this finder to those of `import`."""
        if cls not in sys.meta_path:
            sys.meta_path.append(cls)

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Return a spec for a former name, and None for any other."""
        return ModuleSpec(name, cls(), is_package=True) if name in NOW_AT else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """Return a module that reads each attribute from where it is now, and loads that at first use."""
        module = types.ModuleType(spec.name)
        vars(module)["__getattr__"] = lambda name: find(spec.name, name)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: the module is complete."""
