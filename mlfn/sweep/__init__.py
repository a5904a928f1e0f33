"""Sweeps: one function, many child runs: their parameters, their strategy, and the best of them."""
