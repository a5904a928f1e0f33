"""The store's protocols over SQL: the same statements for every database, one shared connection."""
