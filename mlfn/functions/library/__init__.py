"""Versions of functions, and what differs between them."""
