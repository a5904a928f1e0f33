"""A function's code as one digest, the same in every process and on every machine."""
