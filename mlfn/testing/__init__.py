"""Contract suites, for whoever writes a member of a family: subclass one in a test, and pytest collects it."""
