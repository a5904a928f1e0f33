"""Runs as pods of a Kubernetes cluster, with nothing but a kubeconfig."""
