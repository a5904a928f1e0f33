"""A part of a pod's spec that a user gives, merged over what mlfn makes of one: for what no option of a function says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlfn.errors import OptionError

# What an option of mlfn's own says, and which.
_MODELLED = {
    "restartPolicy": "retry= of the function",
    "activeDeadlineSeconds": "timeout= of the function",
    "terminationGracePeriodSeconds": "the setting grace",
    "containers[main].image": "image= of the function",
    "containers[main].command": "the function itself",
    "containers[main].args": "the function itself",
    "containers[main].workingDir": "the function itself",
    "containers[main].resources.requests.cpu": "cpu= of the function",
    "containers[main].resources.limits.cpu": "cpu= of the function",
    "containers[main].resources.requests.memory": "mem= of the function",
    "containers[main].resources.limits.memory": "mem= of the function",
    "nodeSelector": "node=mlfn.Node(selector=...) of the function",
    "affinity": "node=mlfn.Node(affinity=...) of the function",
    "tolerations": "node=mlfn.Node(tolerations=...) of the function",
    "priorityClassName": "node=mlfn.Node(priority=...) of the function",
}


def merged(base: Mapping[str, Any], part: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return `base` with `part` over it: mappings merge, lists of named items merge by name, others are added to, the rest replaces.

    Raises OptionError for a field that an option of the function says.
    """
    made = dict(base)
    for key, value in part.items():
        where = f"{path}.{key}" if path else key
        if where in _MODELLED:
            raise OptionError(
                f"on('kubernetes', pod=...): {where}={value!r} is what {_MODELLED[where]} says: give it there."
            )
        made[key] = _over(made.get(key), value, where)
    return made


def _over(old: Any, new: Any, path: str) -> Any:
    if isinstance(new, Mapping):
        return merged(old if isinstance(old, Mapping) else {}, new, path)
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return _lists(old, new, path)
    if isinstance(new, (list, tuple)):
        return _lists((), new, path)
    return new


def _lists(old: Any, new: Any, path: str) -> list[Any]:
    # Two mounts of one volume are two items: they differ by their path.
    made = list(old)
    key = "mountPath" if path.endswith(".volumeMounts") else "name"
    for item in new:
        name = item.get(key) if isinstance(item, Mapping) else None
        at = next((i for i, known in enumerate(made) if name is not None and known.get(key) == name), None)
        where = f"{path}[{name}]"
        if at is None:
            made.append(merged({}, item, where) if isinstance(item, Mapping) else item)
        else:
            made[at] = merged(made[at], item, where)
    return made
