"""The controller of a sweep: which children start, when it stops, how it ends."""
