"""A place that hurts: an engine as remote ones are, what goes wrong on the way to it, and stories that must end well."""
