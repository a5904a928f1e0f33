"""What runs: one file and one registry line per kind, pure."""
