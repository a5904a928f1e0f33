"""mlfn: submit Python functions as durable, tracked runs."""
