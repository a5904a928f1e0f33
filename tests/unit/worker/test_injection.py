"""The parameter that a run fills in, found without importing or evaluating anything."""

from typing import Annotated, Any

import pytest

import mlfn
import mlfn as aliased
from mlfn.worker.context import Context
from mlfn.worker.injection import context_parameter, injected_parameters


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


INJECTS = {f"{__name__}.Session": "session"}


class Session: ...


class Package:
    Session = Session


def session_by_class(s: Session): ...


def session_by_text(s: "Session"): ...


def session_by_attribute(s: "Package.Session"): ...


def session_optional(s: Session | None = None): ...


def session_before_others(s: Annotated[Session, "a remark"], x: int): ...


def session_of_a_package_not_imported(s: "tests.Session"): ...  # type: ignore[name-defined]  # noqa: F821


def other_session(s: "Other.Session"): ...  # type: ignore[name-defined]


def session_of_another_package(s: "requests.Session"): ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    "function",
    [
        session_by_class,
        session_by_text,
        session_by_attribute,
        session_optional,
        session_before_others,
        session_of_a_package_not_imported,
    ],
)
def test_what_a_kind_injects_is_found(function: Any) -> None:
    assert injected_parameters(function, INJECTS) == {"s": "session"}


@pytest.mark.parametrize("function", [none, by_class, other_session, session_of_another_package])
def test_other_types_are_not_injected(function: Any) -> None:
    assert injected_parameters(function, INJECTS) == {}


def test_without_injection_nothing_is_looked_up() -> None:
    assert injected_parameters(session_by_class, {}) == {}
