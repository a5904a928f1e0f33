"""Values as content-addressed artifacts: formats, the codec between values and rows, input files."""
