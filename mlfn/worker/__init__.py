"""What starts in a process, pod, rank or driver: the standard library and cloudpickle, nothing else."""
