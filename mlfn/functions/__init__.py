"""Declared functions, and their versions."""
