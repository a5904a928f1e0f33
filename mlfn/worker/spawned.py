"""The ``__main__`` of the processes that a handler starts by `multiprocessing`, other than by fork."""

from __future__ import annotations

from mlfn.worker.children import load

if __name__ == "__mp_main__":  # as `multiprocessing` runs it; imported it does nothing
    globals().update(load())
