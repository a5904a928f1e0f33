"""Where services are deployed: their life cycle, which is another than that of runs."""
