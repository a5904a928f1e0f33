"""Sweeps: one function, many child runs; what they vary, who chooses it, which one is best."""
