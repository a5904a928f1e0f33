"""Dask: runs are tasks of a cluster that is started here, or is there already."""
