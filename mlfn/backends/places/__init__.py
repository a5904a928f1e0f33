"""Where it runs: start, observe, read logs, cancel, clean up."""
