"""The keywords of ``@function``: checked when the decorator runs, merged by `with_options`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from mlfn.errors import OptionError, nearest
from mlfn.secrets import Secret
from mlfn.spec.values import UNSET, Node, Retry, parse_bytes, parse_cpu, parse_seconds

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Options:
    """Checked options of one function; None or empty means not given."""

    name: str | None = None
    project: str | None = None
    kind: Any = None  # a name, or an instance of a kind's options; the registry knows both
    image: str | None = None
    requirements: tuple[str, ...] = ()
    cpu: float | None = None
    mem: int | None = None
    gpus: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    node: Node | None = None
    retry: Retry | None = None
    timeout: float | None = None
    source: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def check_name(value: Any, *, what: str = "name") -> str:
    """Return `value` if it is a legal name of a function, project, run or output."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise OptionError(
        f"{what}={value!r} is no legal name: letters, digits, '_', '-' and '.' are allowed, "
        "the first a letter, digit or '_', 128 at most; name= gives a function another than its own."
    )


def check_options(given: Mapping[str, Any]) -> Options:
    """Return the checked options, or raise OptionError that names the option, its value and what is allowed."""
    refuse_unknown(given, _CHECKS, where="@function")
    options = Options(
        **{name: _CHECKS[name](value) for name, value in given.items() if value is not None and value is not UNSET}
    )
    _refuse_clashes(options)
    return options


def _refuse_clashes(options: Options) -> None:
    """Refuse secrets that would stand under one name, for `Context.secret` or in the environment."""
    answers: dict[str, Secret] = {}
    variables: dict[str, str] = {name: f"env[{name!r}]" for name in options.env}
    for secret in options.secrets:
        name = secret.key or secret.name
        if name in answers and answers[name] != secret:
            raise OptionError(f"secrets: {answers[name]} and {secret} are both {name!r} to ctx.secret(): name one.")
        if secret.env is not None and variables.get(secret.env, repr(secret)) != repr(secret):
            raise OptionError(f"secrets: {secret} and {variables[secret.env]} both set {secret.env}: leave one out.")
        answers[name] = secret
        variables.update({secret.env: repr(secret)} if secret.env else {})


def merge_options(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes`: mappings merge, `UNSET` removes (inside a mapping too), anything else replaces."""
    merged = dict(base)
    for name, value in changes.items():
        if value is UNSET:
            merged.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(name, {}), Mapping):
            merged[name] = merge_options(merged.get(name, {}), value)
        else:
            merged[name] = value
    return merged


# What is said in another place, and how.
_ELSEWHERE = {
    "on": "where it runs is said by .on(...), as in train.on('inline').submit(...).",
    "place": "where it runs is said by .on(...), as in train.on('inline').submit(...).",
    "max_workers": "how many runs a place takes is the place's: .on('local', max_workers=4).",
    "outputs": "outputs are named by the other decorator: @mlfn.handler(outputs=['model']).",
    **dict.fromkeys(
        ("select", "parallel", "stop_when", "max_failures", "max_failure_rate", "subject_to", "deterministic", "memo"),
        "it is one of a sweep: train.grid(...).with_options(...) takes it.",
    ),
}


def refuse_unknown(given: Iterable[str], allowed: Iterable[str], *, where: str) -> None:
    """Raise OptionError for the first name that is not allowed."""
    names = list(allowed)
    for name in given:
        if name not in names:
            raise OptionError(f"{where} has no option {name!r}: {_ELSEWHERE.get(name) or nearest(name, names)}")


def _text(option: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, str) and value.strip() and "\n" not in value:
            return value
        raise OptionError(f"{option}={value!r}: a non-empty line of text is allowed.")

    return check


def _requirements(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise OptionError(
            f"requirements={value!r}: a list of texts is allowed, as in requirements=['scikit-learn==1.5']."
        )
    for item in value:
        # A leading dash would be an option of the installer, not a requirement.
        if not isinstance(item, str) or not item.strip() or item.lstrip().startswith("-") or "\n" in item:
            raise OptionError(f"requirements holds {item!r}: each is one requirement, as in 'scikit-learn==1.5'.")
    return tuple(item.strip() for item in value)


def _gpus(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise OptionError(f"gpus={value!r}: a whole number, 0 or more, is allowed.")


def _strings(option: str) -> Callable[[Any], dict[str, str]]:
    def check(value: Any) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise OptionError(f"{option}={value!r}: a mapping of texts is allowed, as in {option}={{'KEY': 'value'}}.")
        for key, text in value.items():
            if not isinstance(key, str) or not isinstance(text, str):
                raise OptionError(f"{option}[{key!r}]={text!r}: both key and value must be texts.")
            if option == "env" and not _ENV_NAME.fullmatch(key):
                raise OptionError(f"env has {key!r}: a name of letters, digits and '_' is allowed, no digit first.")
        return dict(value)

    return check


def _secrets(value: Any) -> tuple[Secret, ...]:
    items = [value] if isinstance(value, Secret) else value
    if isinstance(items, str):
        raise OptionError(f"secrets={_cut(items)}: a list is allowed, as in secrets=[{_cut(items)}].")
    if not isinstance(items, Sequence) or not all(isinstance(item, (str, Secret)) for item in items):
        raise OptionError(f"secrets={value!r}: a list of names or mlfn.Secret(...) is allowed.")
    return tuple(item if isinstance(item, Secret) else Secret(item) for item in items)


def _cut(text: str) -> str:
    # As with names of secrets: somebody may have put the value here.
    return repr(text if len(text) <= 12 else f"{text[:8]}...")


def _retry(value: Any) -> Retry:
    return value if isinstance(value, Retry) else Retry(value)


def _node(value: Any) -> Node:
    if isinstance(value, Node):
        return value
    raise OptionError(f"node={value!r}: mlfn.Node(selector=..., tolerations=..., ...) is allowed.")


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": check_name,
    "project": lambda value: check_name(value, what="project"),
    "kind": lambda value: value,
    "image": _text("image"),
    "requirements": _requirements,
    "cpu": parse_cpu,
    "mem": parse_bytes,
    "gpus": _gpus,
    "env": _strings("env"),
    "secrets": _secrets,
    "node": _node,
    "retry": _retry,
    "timeout": parse_seconds,
    "source": _text("source"),
    "labels": _strings("labels"),
}
assert list(_CHECKS) == [f.name for f in fields(Options)]
