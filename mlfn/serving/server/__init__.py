"""The embedded server: a service on this machine, or in a pod, without Nuclio."""
