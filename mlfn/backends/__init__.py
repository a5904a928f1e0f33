"""What runs and where: kinds, places, and the registry of both."""
