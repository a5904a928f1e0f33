"""Value <-> artifact: one file per family of types, safe formats first, pickle last.

This package travels to workers: it needs the standard library alone, and imports pandas, pyarrow or NumPy
only inside the functions that handle a value of theirs. `table` packs and unpacks, `inputs` reads files.
"""
