"""Selectors and stop conditions that users write as text."""
