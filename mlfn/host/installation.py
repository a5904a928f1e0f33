"""Where this mlfn is imported from."""

from pathlib import Path

ROOT = str(Path(__file__).parents[2])
