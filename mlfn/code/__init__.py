"""A function's code: how it is captured, hashed, packed and signed."""
