"""What a sweep needs of the function that its children run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from mlfn.dispatch.planner import Prepared, PreparedBefore
    from mlfn.dispatch.signature import Signature
    from mlfn.handles.run import Run

R = TypeVar("R")


class Sweepable(Protocol[R]):
    """A declared function, or a promoted version of one."""

    @property
    def __mlfn_name__(self) -> str:
        """The name that its runs have."""
        ...

    @property
    def __mlfn_signature__(self) -> Signature:
        """Its parameters."""
        ...

    @property
    def __mlfn_function__(self) -> Callable[..., Any]:
        """The plain function."""
        ...

    def with_options(self, /, **options: Any) -> Sweepable[R]:
        """Return another one with options changed."""
        ...

    def __mlfn_head_start__(self) -> None:
        """Start the first workers early."""
        ...

    def __mlfn_prepare__(self) -> Prepared | PreparedBefore:
        """Return the plan, and what is to be stored with it."""
        ...

    @property
    def __mlfn_kept__(self) -> Mapping[str, Mapping[str, Any]]:
        """The parameters that a version has from its run, as they are stored."""
        ...

    def __mlfn_differences__(self, function: str) -> Sequence[str]:
        """Return what differs from a stored version of this hash, a line each."""
        ...

    def submit(self, /, *args: Any, **kwargs: Any) -> Run[R]:
        """Submit one run."""
        ...
