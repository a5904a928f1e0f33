"""`@function` and `@handler`: every form of declaration, options, and the plain call."""

from __future__ import annotations

import asyncio
import functools
import linecache
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import mlfn
from mlfn.errors import DeclarationError, MlfnError, OptionError, UnknownNameError, UnpicklableError
from mlfn.functions.declaration import Function

ROOT = Path(__file__).resolve().parents[3]


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def result_of(function: Function[..., Any, Any], *args: Any, **kwargs: Any) -> Any:
    return function.on("inline").submit(*args, **kwargs).result()


# -- forms -------------------------------------------------------------------------------------------------------------


def test_bare_and_called_declare_the_same() -> None:
    def double(x: int) -> int:
        return 2 * x

    bare, called = mlfn.function(double), mlfn.function()(double)

    assert isinstance(bare, Function) and isinstance(called, Function)
    assert bare(4) == called(4) == 8
    assert bare.hash == called.hash


def test_a_declared_function_keeps_what_it_says_of_itself() -> None:
    @mlfn.function
    def double(x: int) -> int:
        """Twice."""
        return 2 * x

    assert double.__name__ == "double"
    assert double.__doc__ == "Twice."
    assert double.__wrapped__(3) == 6
    assert repr(double) == "<mlfn.Function double>"


def test_handler_stands_above_below_or_alone() -> None:
    def pair(x: int) -> tuple[int, int]:
        return x, -x

    above = mlfn.handler(outputs=["plus", "minus"])(mlfn.function(pair))
    below = mlfn.function(mlfn.handler(outputs=["plus", "minus"])(pair))

    assert above.hash == below.hash
    assert dict(above.on("inline").submit(3).outputs) == {"plus": 3, "minus": -3}
    assert pair(3) == (3, -3)


def test_handler_alone_leaves_the_function_as_it_is() -> None:
    def pair(x: int) -> tuple[int, int]:
        return x, -x

    assert mlfn.handler(pair) is pair
    assert mlfn.handler(outputs=["a", "b"])(pair) is pair
    assert pair(1) == (1, -1)


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ("model", "a list of names"),
        ({"a": 1}, "a list of names"),
        (["a", "a"], "'a' twice"),
        (["no good"], "outputs='no good' is no legal name.*128 at most \\(240 bytes of UTF-8\\)\\.$"),
        ([3], "no legal name"),
    ],
)
def test_outputs_that_are_no_names_are_refused(outputs: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        mlfn.handler(outputs=outputs)


def test_handler_on_what_cannot_be_marked_says_what_to_do() -> None:
    with pytest.raises(DeclarationError, match="above @function"):
        mlfn.handler(outputs=["n"])(len)


def test_an_async_function_gives_its_value() -> None:
    @mlfn.function
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    assert asyncio.run(double(4)) == 8
    assert result_of(double, 4) == 8


def test_an_async_function_runs_inline_within_a_running_loop() -> None:
    @mlfn.function
    async def name_of_run() -> str:
        await asyncio.sleep(0)
        return mlfn.context().name

    async def cell() -> str:
        return await name_of_run.on("inline").submit()

    assert asyncio.run(cell()) == "name_of_run"


def test_a_class_with_call_is_run_as_an_instance() -> None:
    @mlfn.function
    class Scale:
        __slots__ = ()

        def __call__(self, x: int) -> int:
            return 3 * x

    assert Scale(2) == 6
    assert result_of(Scale, 2) == 6
    assert Scale.spec["name"] == "Scale"


def test_an_instance_with_call_keeps_its_state() -> None:
    class Scale:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def __call__(self, x: int) -> int:
            return self.factor * x

    scale = mlfn.function(name="scale")(Scale(5))

    assert scale(2) == result_of(scale, 2) == 10
    with pytest.raises(DeclarationError, match="cannot be made without arguments"):
        mlfn.function(Scale)


def test_a_class_without_call_is_refused() -> None:
    class Plain:
        pass

    with pytest.raises(DeclarationError, match="has no __call__"):
        mlfn.function(Plain)


def test_a_partial_takes_what_is_left() -> None:
    def power(base: int, exponent: int) -> int:
        return base**exponent

    square = mlfn.function(functools.partial(power, exponent=2))

    assert square(3) == result_of(square, 3) == 9
    assert square.spec["name"] == "power"


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(DeclarationError, match="name='score'"):
        mlfn.function(lambda x: x)

    assert result_of(mlfn.function(name="score")(lambda x: x + 1), 1) == 2


def test_a_nested_function_brings_its_closure() -> None:
    factor = 7

    @mlfn.function
    def scaled(x: int) -> int:
        return factor * x

    assert scaled.submit(2).result(timeout=60) == 14


class Model:
    """A user's class with a declared method."""

    def __init__(self, bias: int) -> None:
        self.bias = bias

    @mlfn.function
    def shifted(self, x: int) -> int:
        return x + self.bias

    @staticmethod
    @mlfn.function
    def twice(x: int) -> int:
        return 2 * x


def test_a_method_is_called_and_submitted_with_its_object() -> None:
    assert Model(3).shifted(1) == 4
    assert result_of(Model(3).shifted, 1) == 4
    assert result_of(Model.shifted, Model(5), 1) == 6
    assert Model.twice(4) == result_of(Model.twice, 4) == 8


@pytest.mark.parametrize("wrong", [3, None, "f", staticmethod(len), property(len)])
def test_what_cannot_be_called_is_refused(wrong: Any) -> None:
    with pytest.raises(DeclarationError, match="is allowed"):
        mlfn.function()(wrong)


def test_a_generator_function_is_refused_with_a_way_out() -> None:
    def numbers():
        yield 1

    async def later():
        yield 1

    for generator in (numbers, later):
        with pytest.raises(DeclarationError, match="Return a list"):
            mlfn.function(generator)
        with pytest.raises(DeclarationError, match="Return a list"):
            mlfn.function(mlfn.handler(outputs=["n"])(generator))


def test_a_function_of_main_runs_as_a_script(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import mlfn

            BASE = 40

            def helper(x):
                return BASE + x

            class Answer(Exception):
                pass

            @mlfn.function
            def answer(x: int) -> int:
                return helper(x)

            @mlfn.function
            def refuse():
                raise Answer("no")

            if __name__ == "__main__":
                print(answer.submit(2).result(timeout=60))
                try:
                    refuse.submit().result(timeout=60)
                except Answer as error:
                    print(type(error) is Answer, error)
            """
        )
    )

    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=with_mlfn())

    assert done.stdout.split("\n")[:2] == ["42", "True no"], done.stderr


def with_mlfn() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_function_of_a_notebook_cell_runs_and_shows_its_lines() -> None:
    text = "import mlfn\n\n@mlfn.function\ndef cell(x):\n    return 1 // x\n"
    name = "<ipython-input-3-abc>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), namespace)  # as a kernel does with a cell

    assert namespace["cell"].submit(1).result(timeout=60) == 1
    run = namespace["cell"].submit(0)
    with pytest.raises(ZeroDivisionError):
        run.result(timeout=60)
    assert "return 1 // x" in str(run.error)


def test_the_text_of_a_helpers_cell_is_in_the_run() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    helper = "def helper():\n    return 2\n"
    cell = "import inspect, mlfn\n\n@mlfn.function\ndef cell():\n    return inspect.getsource(helper)\n"
    for name, text in {"<ipython-input-1-abc>": helper, "<ipython-input-2-abc>": cell}.items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), namespace)  # as a kernel does with a cell

    assert namespace["cell"].submit().result(timeout=60) == helper


def test_declaring_reads_and_writes_nothing(home: Path) -> None:
    before = files_below(home)

    @mlfn.function(image="python:3.11-slim", cpu=2, secrets=["S3_KEY"], retry=3, timeout="10m")
    def train(x: int) -> int:
        return x

    assert train(1) == 1
    assert files_below(home) == before


# -- options -----------------------------------------------------------------------------------------------------------


def declared(**options: Any) -> Function[..., Any, Any]:
    def f(x: int = 0) -> int:
        return x

    return mlfn.function(**options)(f)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"imge": "x"}, "'imge'.*did you mean 'image'"),
        ({"replicas": 3}, "'replicas'.*Allowed: cpu, env"),
        ({"cpu": "many"}, "cpu='many'.*2, 0.5 or '500m'"),
        ({"cpu": True}, "cpu=True"),
        ({"mem": "4 gigs"}, "mem='4 gigs'.*'4Gi'"),
        ({"mem": 0}, "mem=0"),
        ({"gpus": 1.5}, "gpus=1.5.*whole number"),
        ({"timeout": "soon"}, "timeout='soon'.*'15m'"),
        ({"image": ""}, "image=''"),
        ({"image": "bad image:///"}, "image='bad image:///': a reference to an image is allowed"),
        ({"image": "Team/Train"}, "image='Team/Train': did you mean 'team/train'"),
        ({"image": "https://ghcr.io/a/b"}, "image='https://ghcr.io/a/b'"),
        ({"image": "a:tag:tag"}, "image='a:tag:tag'"),
        ({"env": {"A": 1}}, r"env\['A'\]=1"),
        ({"env": {"1A": "x"}}, "env has '1A'"),
        ({"env": ["A=1"]}, "a mapping of texts"),
        ({"labels": {1: "x"}}, r"labels\[1\]"),
        ({"requirements": "numpy"}, r"requirements='numpy'.*\["),
        ({"requirements": ["--index-url x"]}, "requirements holds '--index-url x': each"),
        ({"requirements": ["a b c"]}, "requirements holds 'a b c'"),
        ({"requirements": ["numpy=2.0"]}, "requirements holds 'numpy=2.0': did you mean 'numpy==2.0'"),
        ({"requirements": ["numpy >"]}, "requirements holds 'numpy >'"),
        ({"requirements": ["numpy; 3.11"]}, "requirements holds 'numpy; 3.11'"),
        ({"requirements": ["numpy\nscipy"]}, "requirements holds"),
        ({"requirements": [""]}, "requirements holds ''"),
        ({"requirements": [3]}, "requirements holds 3"),
        ({"env": {"A": "x\0"}}, r"env\['A'\]='x\\x00'.*NUL"),
        ({"env": {"A": "\ud800"}}, r"env\['A'\]='\\ud800'"),
        ({"secrets": [3]}, r"secrets=\[3\]"),
        ({"secrets": {"a": "b"}}, "secrets="),
        ({"secrets": "TOKEN"}, r"secrets=\['TOKEN'\]"),
        ({"mem": "4GB"}, "did you mean '4G'"),
        ({"mem": "512 mib"}, "did you mean '512Mi'"),
        ({"node": "gpu"}, r"node='gpu'.*mlfn.Node\("),
        ({"retry": -1}, r"Retry\(times=-1\)"),
        ({"retry": mlfn.Retry(mem="x2")}, r"Retry\(mem='x2'\) raises mem=, which is not given"),
        ({"retry": mlfn.Retry(mem="1Gi"), "mem": "2Gi"}, r"Retry\(mem='1Gi'\) is no more than mem='2Gi'"),
        ({"name": "no good"}, "name='no good' is no legal name"),
        ({"project": "../up"}, "project='../up' is no legal name"),
        ({"kind": 7}, r"kind=7 is no kind.*mlfn.Job\("),
        ({"kind": mlfn.Job}, r"kind=mlfn.Job is the class: add \(\), as in kind=mlfn.Job\(\)"),
        ({"secret": "a-value-that-nobody-may-read"}, r"'secret' \(value 'a-value-\.\.\.\): did you mean 'secrets'"),
        ({"source": "git+https://example.org/a"}, "source=.*remove source="),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_that_does_not_fit_names_itself_its_value_and_what_is_allowed(options: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        declared(**options)


@pytest.mark.parametrize(
    "requirement",
    [
        "numpy",
        "scikit-learn==1.5",
        " pandas >= 2, < 3 ",
        "pandas[parquet, excel]~=2.2",
        "a.b_c",
        "torch===2.1+cpu",
        "x==1.*",
        "x (>=1,<2)",
        "tool @ https://host/tool-1.0.whl#sha256=ab",
        "tool@git+ssh://git@host/tool.git@v1 ; python_version<'3.12'",
        "tomli>=2; python_version < '3.11' and sys_platform == 'linux'",
        "x;'linux' in sys_platform",
        "git+https://host/tool.git",
        "./tool",
        "/srv/wheels/tool-1.0-py3-none-any.whl",
        "tool-1.0.tar.gz",
    ],
)
def test_what_an_installer_takes_for_one_requirement_is_taken(requirement: str) -> None:
    assert declared(requirements=[requirement]).spec["requirements"] == [requirement.strip()]


@pytest.mark.parametrize("again", [lambda f, o: f.with_options(**o), lambda f, o: mlfn.function(**o)(f)])
def test_a_declared_function_takes_no_source_later_either(again: Any) -> None:
    with pytest.raises(OptionError, match=r"source=.*remove source="):
        again(declared(), {"source": "git+https://example.org/a"})


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'jb'.*did you mean 'job'"):
        declared(kind="jb")


def test_an_unknown_option_of_a_kind_names_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"Job has no option 'frsh' \(value True\): did you mean 'fresh'"):
        mlfn.Job(frsh=True)  # type: ignore[call-arg]


def test_a_function_whose_own_name_is_no_legal_one_is_refused_at_once() -> None:
    def long() -> None: ...

    long.__name__ = "l" * 129
    with pytest.raises(OptionError, match="name= gives"):
        mlfn.function(long)

    def _private() -> None: ...

    assert mlfn.function(_private).spec["name"] == "_private"


@pytest.mark.parametrize(
    "options",
    [
        {"secrets": [mlfn.Secret("a", key="id"), mlfn.Secret("b", key="id")]},
        {"secrets": [mlfn.Secret("a", env="K"), mlfn.Secret("b", env="K")]},
        {"secrets": [mlfn.Secret("a", env="K")], "env": {"K": "v"}},
    ],
)
def test_secrets_that_contradict_each_other_are_refused(options: Any) -> None:
    with pytest.raises(OptionError, match="secrets: "):
        declared(**options)


def test_the_same_secret_twice_is_no_contradiction() -> None:
    assert declared(secrets=["a", mlfn.Secret("a")])() == 0


def test_with_options_returns_another_function() -> None:
    small = declared(cpu=1, env={"A": "1", "B": "2"}, labels={"team": "risk"})

    large = small.with_options(cpu=4, env={"B": mlfn.UNSET, "C": "3"}, labels=mlfn.UNSET)

    assert large is not small
    assert small.spec["resources"] == {"cpu": 1.0} and small.spec["env"] == {"A": "1", "B": "2"}
    assert large.spec["resources"] == {"cpu": 4.0} and large.spec["env"] == {"A": "1", "C": "3"}
    assert "labels" not in large.spec
    assert large(3) == 3


def test_unset_in_a_mapping_that_was_never_given_removes_nothing() -> None:
    assert declared().with_options(env={"A": mlfn.UNSET, "B": "1"}).spec["env"] == {"B": "1"}


def test_unset_takes_back_the_name() -> None:
    assert declared(name="other").with_options(name=mlfn.UNSET).spec["name"] == "f"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("on", r"\.on\('inline'\)\.submit"),
        ("outputs", r"@mlfn\.handler\(outputs=\['model'\]\)"),
        ("max_workers", r"\.on\('local', max_workers=4\)"),
        ("parallel", r"train\.grid\(\.\.\.\)\.with_options"),
    ],
)
def test_an_option_that_is_said_elsewhere_is_told_where(option, said):
    with pytest.raises(OptionError, match=rf"@function has no option {option!r} \(value 1\): .*{said}"):
        mlfn.function(**{option: 1})


def test_handler_says_of_an_option_of_function_whose_it_is() -> None:
    with pytest.raises(OptionError, match=r"@handler has no option 'cpu' \(value 2\): .*@mlfn\.function"):
        mlfn.handler(outputs=["a"], cpu=2)  # type: ignore[call-overload]


def test_with_options_refuses_what_the_decorator_refuses() -> None:
    with pytest.raises(OptionError, match=r"f.with_options\(\) has no option 'gpu' \(value 1\): did you mean 'gpus'"):
        declared().with_options(gpu=1)
    with pytest.raises(OptionError, match="cpu='x'"):
        declared().with_options(cpu="x")


def test_what_becomes_of_a_given_container_changes_no_declaration() -> None:
    env, requirements = {"A": "1"}, ["numpy"]
    function = declared(env=env, requirements=requirements)
    before = function.hash

    env["A"] = "2"
    requirements.append("pandas")
    function.spec["env"]["A"] = "3"

    assert function.hash == before
    assert function.spec["env"] == {"A": "1"}


def test_on_returns_another_function_and_refuses_what_the_place_lacks() -> None:
    function = declared()

    assert function.on("inline") is not function
    with pytest.raises(UnknownNameError, match=r"'locl'.*did you mean 'local'"):
        function.on("locl")
    for wrong in (-2, 0, True, 1.5, "x"):
        with pytest.raises(OptionError, match=rf"on\('local', max_workers={wrong!r}\): a whole number, 1 or more"):
            declared().on("local", max_workers=wrong)
    with pytest.raises(OptionError, match=r"on\('local'\) has no option 'workers' \(value 3\).*'max_workers'"):
        function.on("local", workers=3)


def test_options_of_the_outer_decorator_add_to_the_inner() -> None:
    inner = declared(cpu=2)

    outer = mlfn.function(mem="1Gi")(inner)

    assert outer.spec["resources"] == {"cpu": 2.0, "mem": 2**30}


# -- plan and check ----------------------------------------------------------------------------------------------------


def test_a_plan_is_yaml_and_creates_nothing(home: Path) -> None:
    function = declared(
        image="python:3.11-slim",
        env={"YES": "yes", "N": "1e3", "EMPTY": "", "COLON": "a: b # c", "UNI": "zwölf\n"},
        labels={"on": "off"},
        requirements=["scikit-learn>=1.5"],
    )
    before = files_below(home)

    shown = yaml.safe_load(function.on("local", max_workers=2).plan(3))

    assert files_below(home) == before
    assert shown["function"] == {"hash": function.hash, **function.spec}
    assert shown["place"] == {"name": "local", "options": {"max_workers": 2}}
    assert shown["creates"] == {"worker": {"fresh": False}}
    assert shown["params"] == {"x": 3}


def test_a_plan_shows_parameters_as_plain_yaml() -> None:
    @mlfn.function
    def take(*values: Any) -> None: ...

    @mlfn.function
    def read(frame: pd.DataFrame, other: Any) -> None: ...

    Path("a.csv").write_text("a\n1\n")
    frame = pd.DataFrame({"a": range(1000)})
    first = declared().on("inline").submit(3)

    given = [None, True, 3, 0.5, "3", "text", {"a": [1, (2, 3)]}, Path("/tmp"), {1}, frame, float("inf"), np.float64(2)]
    assert yaml.safe_load(take.plan(*given))["params"]["values"] == [
        *(None, True, 3, 0.5, "3", "text", {"a": [1, [2, 3]]}, "/tmp", "{1}"),
        *(f"<{type(frame).__module__}.DataFrame>", float("inf"), 2.0),
    ]
    assert yaml.safe_load(read.plan(mlfn.data("a.csv"), getattr(first.outputs, "return")))["params"] == {
        "frame": {"input": str(Path("a.csv").absolute()), "as": "pandas.DataFrame"},
        "other": {"output": "return", "run": first.id},
    }


def test_a_plan_checks_parameters_and_place_as_submit_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(mlfn.errors.ParameterError, match="'y'"):
        declared().plan(y=1)
    monkeypatch.setenv("MLFN_ON", "moon")
    with pytest.raises(MlfnError, match="'moon'"):
        declared().plan(1)


def test_check_says_how_the_code_travels(home: Path) -> None:
    before = files_below(home)

    assert declared().check().mode == "value"
    assert mlfn.function(textwrap.dedent).check().mode == "import"
    assert files_below(home) == before


def test_check_names_the_value_that_cannot_travel() -> None:
    import threading

    lock = threading.Lock()

    @mlfn.function
    def train() -> None:
        lock.acquire()

    with pytest.raises(UnpicklableError, match=r"train.*-> lock"):
        train.check()


def test_an_installed_function_is_submitted_by_its_import_path() -> None:
    dedent = mlfn.function(textwrap.dedent)

    assert dedent.submit("  a\n  b").result(timeout=60) == "a\nb"


def test_a_function_declared_in_an_installed_module_is_submitted_by_its_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "lib" / "site-packages"
    site.mkdir(parents=True)
    (site / "installed_jobs.py").write_text(
        textwrap.dedent(
            """
            import mlfn

            @mlfn.function(labels={"team": "risk"})
            @mlfn.handler(outputs=["twice", "name"])
            def twice(x: int, ctx: mlfn.Context):
                return 2 * x, ctx.name
            """
        )
    )
    # A worker finds what is installed where its own Python does, here by the variable that it inherits.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{site}")
    monkeypatch.syspath_prepend(str(site))
    import installed_jobs  # type: ignore[import-not-found]

    assert installed_jobs.twice.check().mode == "import"
    assert installed_jobs.twice.submit(4).result(timeout=60) == (8, "twice")
    assert installed_jobs.twice.on("inline").submit(4).result() == (8, "twice")
    del sys.modules["installed_jobs"]


# -- the plain call ----------------------------------------------------------------------------------------------------


def test_a_plain_call_returns_the_very_value(home: Path) -> None:
    value: list[int] = []

    @mlfn.function
    def same(x: list[int]) -> list[int]:
        return x

    before = files_below(home)
    assert same(value) is value
    assert files_below(home) == before


def test_a_plain_call_checks_no_types() -> None:
    assert declared()("any") == "any"


def test_a_plain_call_raises_the_very_exception_with_its_frames() -> None:
    error = ValueError("mine")

    @mlfn.function
    def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="mine") as caught:
        fail()

    assert caught.value is error
    assert error.__cause__ is None and error.__context__ is None
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames == ["test_a_plain_call_raises_the_very_exception_with_its_frames", "__call__", "fail"]


def test_a_plain_call_misses_arguments_as_python_does() -> None:
    @mlfn.function
    def f(x: int) -> int:
        return x

    @mlfn.function
    def with_context(ctx: mlfn.Context, x: int) -> int:
        return x

    for function in (f, with_context):
        with pytest.raises(TypeError, match=r"missing .*'x'"):
            function()  # type: ignore[call-arg]


def test_a_plain_call_gets_a_context_wherever_the_handler_wants_it() -> None:
    @mlfn.function
    def first(ctx: mlfn.Context, x: int, y: int = 2) -> Any:
        return ctx.name, x, y

    @mlfn.function
    def last(x: int, ctx: mlfn.Context) -> Any:
        return ctx.name, x

    @mlfn.function
    def rest(ctx: mlfn.Context, *items: int, **more: int) -> Any:
        return ctx.name, items, more

    @mlfn.function
    def strict(ctx: mlfn.Context, x: int, /, *, y: int) -> Any:
        return ctx.name, x, y

    @mlfn.function
    def named(context, x):
        return context.name, x

    assert first(1) == first(x=1) == ("local", 1, 2)
    assert last(1) == last(x=1) == ("local", 1)
    assert rest(1, 2, a=3) == ("local", (1, 2), {"a": 3})
    assert strict(1, y=2) == ("local", 1, 2)
    assert named(1) == ("local", 1)


def test_a_context_of_ones_own_can_be_passed() -> None:
    @mlfn.function
    def where(ctx: mlfn.Context, x: int) -> Any:
        return ctx.name, x

    mine = mlfn.Context(name="mine")

    assert where.__wrapped__(mine, 1) == ("mine", 1)
    assert where(mine, 1) == where(ctx=mine, x=1) == ("mine", 1)  # type: ignore[call-arg, arg-type]


def test_a_declared_function_can_call_another_plainly() -> None:
    @mlfn.function
    def inner(x: int) -> int:
        return x + 1

    @mlfn.function
    def outer(x: int) -> int:
        return inner(inner(x))

    assert outer.submit(1).result(timeout=60) == 3
