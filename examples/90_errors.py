"""Catch what mlfn refuses: as an mlfn error, or as the builtin that you would catch anyway."""

from mlfn.errors import MlfnError, ResultTimeoutError

try:
    raise ResultTimeoutError("run 3f2a91 is still running after 600 s")
except TimeoutError as error:
    print(f"{type(error).__name__}: {error}")
    assert isinstance(error, MlfnError)
