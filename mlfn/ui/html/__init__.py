"""HTML renderers: cards of runs and sweeps."""
