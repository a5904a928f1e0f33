"""FunctionSpec: canonical JSON that round-trips, refuses unknown keys by name and hashes as the planner's does."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

import mlfn
from mlfn.errors import OptionError
from mlfn.spec.canonical import canonical, digest, spec_hash
from mlfn.spec.function import FunctionSpec
from mlfn.spec.yaml_text import to_yaml

EVERYTHING: dict[str, Any] = {
    "name": "train",
    "project": "fraud",
    "kind": mlfn.Job(fresh=True),
    "image": "python:3.11-slim",
    "requirements": ["scikit-learn>=1.5"],
    "cpu": 0.5,
    "mem": "4Gi",
    "gpus": 1,
    "env": {"A": "1"},
    "secrets": ["plain", mlfn.Secret("s3", key="id", env="S3_ID")],
    "node": mlfn.Node(selector={"pool": "gpu"}, tolerations=[{"key": "gpu"}], priority="high", spot="allow"),
    "retry": mlfn.Retry(3, on=[ValueError, "oom"]),
    "timeout": "15m",
    "labels": {"team": "risk"},
}


def declared(**options: Any) -> Any:
    def train(x: int = 0) -> int:
        return x

    return mlfn.function(**options)(mlfn.handler(outputs=["model"])(train))


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["nothing", "everything"])
def test_the_planners_spec_has_the_same_hash(options: Any) -> None:
    function = declared(**options)

    spec = FunctionSpec.parse(function.spec)

    assert spec.hash == function.hash == spec_hash(function.spec)
    assert json.loads(spec.to_json()) == function.spec
    assert spec.to_json() == canonical(function.spec)


def test_each_option_is_in_the_hash_but_labels() -> None:
    plain = declared().hash

    changed = {name: declared(**{name: value}).hash for name, value in EVERYTHING.items() if name != "name"}

    assert changed.pop("labels") == plain
    assert declared(name="other").hash != plain
    assert len({plain, *changed.values()}) == len(changed) + 1


def test_an_options_spelling_is_not_hashed() -> None:
    assert declared(mem="1Gi").hash == declared(mem=2**30).hash
    assert declared(cpu=2).hash == declared(cpu="2000m").hash
    assert declared(timeout=60).hash == declared(timeout="1m").hash
    assert declared(kind="job").hash == declared(kind=mlfn.Job()).hash == declared().hash
    assert declared(secrets=mlfn.Secret("s3")).hash == declared(secrets=[mlfn.Secret("s3")]).hash
    assert declared(retry=3).hash == declared(retry=mlfn.Retry(3)).hash
    assert declared(env={"A": "1", "B": "2"}).hash == declared(env={"B": "2", "A": "1"}).hash


def test_a_spec_round_trips_through_json_and_yaml() -> None:
    spec = FunctionSpec.parse(declared(**EVERYTHING).spec)

    assert FunctionSpec.parse(spec.to_json()) == spec
    assert FunctionSpec.parse(yaml.safe_load(to_yaml(json.loads(spec.to_json())))) == spec


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("imge",), "x", "no key 'imge'.*did you mean 'image'"),
        (("resources", "cpus"), 2, "no key 'resources.cpus'.*did you mean 'cpu'"),
        (("retry", "time"), 2, "no key 'retry.time'.*did you mean 'times'"),
        (("secrets", 1, "keys"), "id", "no key 'secrets.1.keys'.*did you mean 'key'"),
        (("name",), 3, "name=3 does not fit"),
        (("env",), {"A": 1}, "env.A=1 does not fit"),
        (("timeout",), "soon", "timeout='soon' does not fit"),
        (("resources", "mem"), "4Gi", "resources.mem='4Gi' does not fit"),
    ],
)
def test_a_wrong_key_is_named(path: tuple[Any, ...], value: Any, says: str) -> None:
    data = declared(**EVERYTHING).spec
    target = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value

    for form in (data, json.dumps(data)):
        with pytest.raises(OptionError, match=says):
            FunctionSpec.parse(form)


def test_what_is_no_spec_at_all_is_refused() -> None:
    for wrong in ("{", "[]", "null"):
        with pytest.raises(OptionError, match="function spec"):
            FunctionSpec.parse(wrong)


def test_canonical_json_is_sorted_and_strict() -> None:
    assert canonical({"b": 1, "a": ["zwölf", None, 1.0]}) == '{"a":["zwölf",null,1.0],"b":1}'
    for wrong in (float("nan"), {1, 2}, object()):
        with pytest.raises((ValueError, TypeError)):
            canonical(wrong)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(PLAIN)
@example(1e-05)
@example(-1e22)
@example({"\x85": "\u2028"})
def test_any_plain_data_reads_back_from_yaml(data: Any) -> None:
    assert yaml.safe_load(to_yaml(data)) == data


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=6))
def test_key_order_is_not_digested(data: dict[str, int]) -> None:
    assert digest(data) == digest(dict(reversed(data.items())))
