"""The user's own package: what runs of the stored data folder were made with."""
