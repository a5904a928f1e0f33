"""Services as Deployments of the embedded server: nothing is installed in the cluster for them."""
