"""Which GPUs this machine shows."""

from __future__ import annotations

import os
import re


def visible_gpus() -> list[str]:
    """Return the devices by the names that CUDA_VISIBLE_DEVICES takes; that variable itself narrows them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    try:
        names = os.listdir("/dev")
    except OSError:
        return []
    return sorted((m[1] for name in names if (m := re.fullmatch(r"nvidia(\d+)", name))), key=int)
