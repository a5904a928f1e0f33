"""What a type checker knows of the errors; held by mypy and pyright, not run."""

from mlfn.errors import NotFoundError, nearest

try:
    sentence: str = nearest("replica", {"replicas"})
except NotFoundError as error:
    as_the_builtin: KeyError = error
