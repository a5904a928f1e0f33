"""This machine and this process: identity, private files, cores, memory, GPUs, failpoints."""
