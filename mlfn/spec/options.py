"""The keywords of ``@function``: checked when the decorator runs, merged by `with_options`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, fields
from typing import Any

from mlfn.errors import OptionError, nearest, readable
from mlfn.host.frozen import frozen
from mlfn.settings.secrets import Secret, cut
from mlfn.spec.values import ANY_SCRIPT, UNSET, Node, Retry, is_name, parse_bytes, parse_cpu, parse_seconds, shown_bytes

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_name(value: Any, *, what: str = "name") -> str:
    """Return `value` if it is a legal name of a function, project, run or output."""
    if isinstance(value, str) and (_PLAIN_NAME.fullmatch(value) or is_name(value, signs="_-.", first="_")):
        return value
    raise OptionError(
        f"{what}={value!r} is no legal name: {ANY_SCRIPT}, '_', '-' and '.' are allowed, the first a letter, digit or '_', "
        f"128 at most (240 bytes of UTF-8){_OTHER_NAME if what == 'name' else ''}."
    )


_OTHER_NAME = "; name= gives a function another than its own"


def check_options(given: Mapping[str, Any]) -> Options:
    """Return the checked options, or raise OptionError that names the option, its value and what is allowed."""
    refuse_unknown(given, _CHECKS, where="@function")
    options = Options(
        **{name: _CHECKS[name](value) for name, value in given.items() if value is not None and value is not UNSET}
    )
    _refuse_clashes(options)
    return options


def _refuse_clashes(options: Options) -> None:
    """Refuse a retry that raises no memory, and secrets that would stand under one name, for `Context.secret` or in the environment."""
    more, mem = options.retry.mem if options.retry else None, options.mem
    if isinstance(more, str) and mem is None:
        raise OptionError(f"Retry(mem={more!r}) raises mem=, which is not given: give both, as in mem='2Gi'.")
    if isinstance(more, int) and mem is not None and more <= mem:
        raise OptionError(
            f"Retry(mem={shown_bytes(more)!r}) is no more than mem={shown_bytes(mem)!r}, with which the first attempt runs out: "
            "give more, or a factor as in Retry(mem='x2')."
        )
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


# Options of other calls, and how to give them.
_ELSEWHERE = {
    "on": ".on(...) chooses where it runs, as in train.on('inline').submit(...).",
    "place": ".on(...) chooses where it runs, as in train.on('inline').submit(...).",
    "max_workers": "it is an option of the place: .on('local', max_workers=4).",
    "outputs": "outputs are named by the other decorator: @mlfn.handler(outputs=['model']).",
    **dict.fromkeys(
        ("select", "parallel", "stop_when", "max_failures", "max_failure_rate", "subject_to", "deterministic", "memo"),
        "it is an option of a sweep: train.grid(...).with_options(...) takes it.",
    ),
}


def refuse_unknown(
    given: Mapping[str, Any], allowed: Iterable[str], *, where: str, elsewhere: Mapping[str, str] = _ELSEWHERE
) -> None:
    """Raise OptionError for the first name that is not allowed; `elsewhere` has hints for some."""
    names = list(allowed)
    for name, value in given.items():
        if name not in names:
            hint = elsewhere.get(name) or nearest(name, names)
            raise OptionError(f"{where} has no option {name!r} (value {_shown(name, value)}): {hint}")


def _shown(name: str, value: Any) -> str:
    # As with names of secrets: an option with such a name may hold the value itself.
    longest = 12 if re.search("secr|token|passw|key", name.lower()) else 80
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _text(option: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, str) and value.strip() and "\n" not in value:
            return value
        raise OptionError(f"{option}={value!r}: a non-empty line of text is allowed.")

    return check


# As the registries' own grammar of references has it. Compiled when it is first asked for.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}"
_IMAGE = rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@{_DIGEST})?"


def _image(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(_IMAGE, value):
        return value
    lower = value.lower() if isinstance(value, str) else ""
    near = f"did you mean {lower!r}? " if lower != value and re.fullmatch(_IMAGE, lower) else ""
    raise OptionError(
        f"image={value!r}: {near}a reference to an image is allowed, its path in lower-case ASCII letters and digits, as in "
        "'python:3.11-slim', 'registry.example.com:5000/team/train:1.2' or 'team/train@sha256:...'."
    )


def _requirements(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise OptionError(
            f"requirements={value!r}: a list of texts is allowed, as in requirements=['scikit-learn==1.5']."
        )
    for item in value:
        if not isinstance(item, str) or not _is_requirement(item.strip()):
            raise OptionError(
                f"requirements holds {item!r}: {_meant_requirement(item)}each is one requirement, as in "
                "'scikit-learn==1.5', 'pandas[parquet]>=2,<3' or 'tool @ https://host/tool.whl'."
            )
    return tuple(item.strip() for item in value)


# As PEP 508 has it; what stands in a version or marker is the installer's to read. Compiled when it is first asked for.
_DISTRIBUTION = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_EXTRAS = rf"\[\s*(?:{_DISTRIBUTION}(?:\s*,\s*{_DISTRIBUTION})*)?\s*\]"
_VERSION = r"(?:===|~=|==|!=|<=|>=|<|>)\s*[^\s,;()=<>!~]+"
_VERSIONS = rf"{_VERSION}(?:\s*,\s*{_VERSION})*"
_MARKER = r";\s*\S.*?(?:==|!=|<=|>=|~=|<|>|\bin\b).*\S"
_REQUIREMENT = (
    rf"{_DISTRIBUTION}\s*(?:{_EXTRAS})?\s*"
    rf"(?:@\s*\S+(?:\s+{_MARKER})?|(?:{_VERSIONS}|\(\s*{_VERSIONS}\s*\))?\s*(?:{_MARKER})?)"
)
# What an installer takes besides: the address or the path of one package.
_PLACE_OF_ONE = r"[A-Za-z][A-Za-z0-9+.-]*:\S+|(?:~|\.{0,2})/[^\0\n]*|\S+\.(?:whl|zip|tar\.gz)"


def _is_requirement(text: str) -> bool:
    # A leading dash would be an option of the installer; neither grammar lets one begin.
    return "\n" not in text and re.fullmatch(f"{_REQUIREMENT}|{_PLACE_OF_ONE}", text) is not None


def _meant_requirement(item: Any) -> str:
    match = re.fullmatch(rf"({_DISTRIBUTION})\s*=?\s*(\d\S*)", item.strip()) if isinstance(item, str) else None
    return f"did you mean '{match[1]}=={match[2]}'? As a rule " if match and re.search(r"[\s=]", item.strip()) else ""


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
                raise OptionError(
                    f"env has {key!r}: a name of ASCII letters, digits and '_' is allowed, no digit first."
                )
            if option == "env" and not _fits_environment(text):
                raise OptionError(f"env[{key!r}]={text!r}: it must contain neither NUL nor unpaired surrogates.")
        return dict(value) if option == "env" else {readable(key): readable(text) for key, text in value.items()}

    return check


def _fits_environment(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _secrets(value: Any) -> tuple[Secret, ...]:
    items = [value] if isinstance(value, Secret) else value
    if isinstance(items, str):
        raise OptionError(f"secrets={cut(items)}: a list is allowed, as in secrets=[{cut(items)}].")
    if not isinstance(items, Sequence) or not all(isinstance(item, (str, Secret)) for item in items):
        raise OptionError(f"secrets={value!r}: a list of names or mlfn.Secret(...) is allowed.")
    return tuple(item if isinstance(item, Secret) else Secret(item) for item in items)


def _retry(value: Any) -> Retry:
    return value if isinstance(value, Retry) else Retry(value)


def _node(value: Any) -> Node:
    if isinstance(value, Node):
        return value
    raise OptionError(f"node={value!r}: mlfn.Node(selector=..., tolerations=..., ...) is allowed.")


def _by(check: Callable[[Any], Any]) -> Mapping[str, Any]:
    return {"check": check}


@frozen
class Options:
    """Checked options of one function; None or empty means not given."""

    name: str | None = field(default=None, metadata=_by(check_name))
    project: str | None = field(default=None, metadata=_by(lambda value: check_name(value, what="project")))
    # A name, or an instance of a kind's options; the registry knows both.
    kind: Any = field(default=None, metadata=_by(lambda value: value))
    image: str | None = field(default=None, metadata=_by(_image))
    requirements: tuple[str, ...] = field(default=(), metadata=_by(_requirements))
    cpu: float | None = field(default=None, metadata=_by(parse_cpu))
    mem: int | None = field(default=None, metadata=_by(parse_bytes))
    gpus: int | None = field(default=None, metadata=_by(_gpus))
    env: Mapping[str, str] = field(default_factory=dict, metadata=_by(_strings("env")))
    secrets: tuple[Secret, ...] = field(default=(), metadata=_by(_secrets))
    node: Node | None = field(default=None, metadata=_by(_node))
    retry: Retry | None = field(default=None, metadata=_by(_retry))
    timeout: float | None = field(default=None, metadata=_by(parse_seconds))
    source: str | None = field(default=None, metadata=_by(_text("source")))
    labels: Mapping[str, str] = field(default_factory=dict, metadata=_by(_strings("labels")))


_CHECKS: Mapping[str, Callable[[Any], Any]] = {option.name: option.metadata["check"] for option in fields(Options)}
