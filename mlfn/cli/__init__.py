"""The command line: what a terminal, a script or a cron job asks of the same library."""
