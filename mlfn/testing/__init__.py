"""Contract suites for members of a family that others write: subclass one in a test, and pytest collects it."""
