"""A function that is called by events, on Nuclio or in the embedded server."""
