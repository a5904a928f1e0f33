"""Commands over SQL, one file per subject."""
