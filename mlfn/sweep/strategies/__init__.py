"""Strategies: which parameters the next child gets."""
