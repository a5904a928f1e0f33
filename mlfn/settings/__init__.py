"""Every setting declared once; sources, folders, the signing key, secrets and the masking of secrets."""
