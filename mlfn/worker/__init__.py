"""What runs where a run runs."""
