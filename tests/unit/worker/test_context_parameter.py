"""The parameter that a run fills in, found without importing or evaluating anything."""

from typing import Annotated, Any

import pytest

import mlfn
import mlfn as aliased
from mlfn.worker.context import Context, context_parameter


class Other:
    class Context:
        pass


def by_class(x, ctx: mlfn.Context): ...


def by_alias(ctx: aliased.Context): ...


def by_optional(ctx: Context | None = None): ...


def by_union(ctx: Context | None = None): ...


def by_annotated(ctx: Annotated[Context, "a remark"]): ...


def by_text(ctx: "mlfn.Context"): ...


def by_text_of_an_alias(ctx: "aliased.Context"): ...


def by_text_optional(ctx: "mlfn.Context | None" = None): ...


def by_text_union(ctx: "Context | None" = None): ...


def by_text_unknown(ctx: "mlrun.Context"): ...  # type: ignore[name-defined]  # noqa: F821


def by_name_of_old(context, x): ...


def keyword_only(x, *, ctx: Context): ...


def none(x: int) -> Context: ...  # type: ignore[empty-body]


def another_class(ctx: Other.Context): ...


def another_class_as_text(ctx: "Other.Context"): ...


def another_type_under_the_name(context: dict): ...


class Callable_:
    def __call__(self, ctx: "mlfn.Context") -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        by_class,
        by_alias,
        by_optional,
        by_union,
        by_annotated,
        by_text,
        by_text_of_an_alias,
        by_text_optional,
        by_text_union,
        by_text_unknown,
        keyword_only,
        Callable_(),
    ],
)
def test_a_context_is_found(function: Any) -> None:
    assert context_parameter(function) == "ctx"


def test_a_context_is_found_by_its_old_name() -> None:
    assert context_parameter(by_name_of_old) == "context"


@pytest.mark.parametrize("function", [none, another_class, another_class_as_text, another_type_under_the_name, len])
def test_what_is_no_context_is_the_callers(function: Any) -> None:
    assert context_parameter(function) is None
