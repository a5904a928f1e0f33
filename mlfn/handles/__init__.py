"""What users hold: runs, outputs, children, versions, finders."""
