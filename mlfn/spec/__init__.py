"""Declarations, plans and records: frozen data, no I/O."""
