"""The command line: the same library for terminals, scripts and cron jobs."""
