"""Terminal renderers: progress lines and tables."""
