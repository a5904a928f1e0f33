"""Distributions of swept parameters."""
