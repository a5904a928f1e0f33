"""The first process of a pod: it runs one unit of an execution, and all that the client learns of it passes through its log."""
