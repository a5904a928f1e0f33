"""Nuclio's own processor on this machine, where a setting names one: what it is started with, and the process that keeps it."""
