"""The version, in its one place: the build, `mlfn.__version__` and payload headers read it here."""

__version__ = "0.2.0"
