"""A function that answers events: the adapter between both, its test double, its description, and the embedded server."""
