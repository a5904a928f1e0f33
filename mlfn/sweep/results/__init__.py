"""The results of a sweep: selection, table, comparison, plots."""
