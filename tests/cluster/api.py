"""The cluster that KUBECONFIG names, as tests reach it: past mlfn, and through a forwarder that can be cut."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from mlfn.backends.places.kubernetes.connection import ApiError, Connection
from mlfn.backends.places.kubernetes.roles import role

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_DASK = "/apis/kubernetes.dask.org/v1"
_GROUPS = {
    "jobs": "/apis/batch/v1",
    "mpijobs": "/apis/kubeflow.org/v2beta1",
    "daskjobs": _DASK,
    "daskclusters": _DASK,
    "daskautoscalers": _DASK,
    "sparkapplications": "/apis/sparkoperator.k8s.io/v1beta2",
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "roles": _RBAC,
    "rolebindings": _RBAC,
}
OPERATED = ("mpijobs", "daskjobs", "daskclusters", "sparkapplications")
"""What operators make pods of."""
KUBECONFIG = os.environ.get("KUBECONFIG", "")


class Forwarder:
    """Passes connections on to the API server until it is cut off."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Break all connections, and take none while the block runs."""
        self._is_cut = True
        for found in list(self._open):
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            self._is_cut = False

    def close(self) -> None:
        """Take nothing any more."""
        with self.cut():
            self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._server.accept()
            except OSError:
                return
            if self._is_cut:
                ours.close()
                continue
            threading.Thread(target=self._serve, args=(ours,), daemon=True).start()

    def _serve(self, ours: socket.socket) -> None:
        with ours, socket.create_connection(self._to) as theirs:
            self._open |= {ours, theirs}
            back = threading.Thread(target=_pump, args=(theirs, ours), daemon=True)
            back.start()
            _pump(ours, theirs)
            back.join()
            self._open -= {ours, theirs}


def _pump(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)


class Namespace:
    """A namespace of its own, with what mlfn and tests need in it."""

    def __init__(self, *, restricted: bool = False) -> None:
        self.name = f"test-{secrets.token_hex(4)}"
        self.api = Connection(kubeconfig=KUBECONFIG)
        server = urlsplit(self.api.host)
        self.forwarder = Forwarder(server.hostname or "", server.port or 443)
        self._server_name = server.hostname
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
        self.api.post("/api/v1/namespaces", {"metadata": {"name": self.name, "labels": labels}})
        self._token = self._permit()
        self._volumes: list[str] = []

    def _permit(self) -> str:
        """Make a user with the rights that `mlfn rbac` prints, and return its token."""
        user = {"kind": "ServiceAccount", "name": "user", "namespace": self.name}
        self.api.post(self.path("serviceaccounts"), {"metadata": {"name": "user"}})
        self.api.post(self.path("roles"), role(self.name))
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mlfn"}
        binding = {"metadata": {"name": "mlfn"}, "subjects": [user], "roleRef": reference}
        self.api.post(self.path("rolebindings"), binding)
        made = self.api.post(f"{self.path('serviceaccounts')}/user/token", {"spec": {"expirationSeconds": 7200}})
        return str(made["status"]["token"])

    @contextmanager
    def passing_token(self) -> Iterator[str]:
        """Make another token of that user, which ends with the block."""
        secret = self.api.post(self.path("secrets"), {"metadata": {"name": "passing"}})["metadata"]
        bound = {"apiVersion": "v1", "kind": "Secret", "name": secret["name"], "uid": secret["uid"]}
        body = {"spec": {"expirationSeconds": 600, "boundObjectRef": bound}}
        token = str(self.api.post(f"{self.path('serviceaccounts')}/user/token", body)["status"]["token"])
        yield token
        self.api.delete(f"{self.path('secrets')}/passing")
        until = time.monotonic() + 60
        while self._is_taken(token):
            assert time.monotonic() < until
            time.sleep(0.2)

    def _is_taken(self, token: str) -> bool:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        return bool(self.api.post("/apis/authentication.k8s.io/v1/tokenreviews", review)["status"].get("authenticated"))

    def permit_drivers(self) -> None:
        """Make the service account `spark`, whose token lets a driver make the pods of its executors."""
        self.api.post(self.path("serviceaccounts"), {"metadata": {"name": "spark"}})
        verbs = ["create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"]
        resources = ["pods", "services", "configmaps", "persistentvolumeclaims"]
        rule = {"apiGroups": [""], "resources": resources, "verbs": verbs}
        self.api.post(self.path("roles"), {"metadata": {"name": "spark"}, "rules": [rule]})
        subjects = [{"kind": "ServiceAccount", "name": "spark", "namespace": self.name}]
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "spark"}
        binding = {"metadata": {"name": "spark"}, "subjects": subjects, "roleRef": reference}
        self.api.post(self.path("rolebindings"), binding)

    def write_kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig of that user, whose context has this namespace, through the forwarder."""
        config = yaml.safe_load(Path(KUBECONFIG).read_text())
        for cluster in config["clusters"]:
            cluster["cluster"]["server"] = f"https://127.0.0.1:{self.forwarder.port}"
            cluster["cluster"]["tls-server-name"] = self._server_name
        for user in config["users"]:
            user["user"] = {"token": self._token}
        for context in config["contexts"]:
            context["context"]["namespace"] = self.name
        path.write_text(yaml.safe_dump(config))
        return path

    def path(self, kind: str) -> str:
        """Return the path of the objects of a kind."""
        return f"{_GROUPS.get(kind, '/api/v1')}/namespaces/{self.name}/{kind}"

    def items(self, kind: str, **query: Any) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        found: list[dict[str, Any]] = self.api.get(self.path(kind), **query)["items"]
        return found

    def pod_of(self, execution: str, index: int = 0) -> str:
        """Return the name of the pod of a unit."""
        pods = self.items("pods", labelSelector=f"mlfn.io/execution={execution},!mlfn.io/role")
        key = "batch.kubernetes.io/job-completion-index"
        [name] = [pod["metadata"]["name"] for pod in pods if int(pod["metadata"]["labels"].get(key, 0)) == index]
        return str(name)

    def make_secret(self, name: str, **values: str) -> None:
        """Create a Secret."""
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.api.post(self.path("secrets"), {"metadata": {"name": name}, "data": data})

    def make_claim(self, name: str, folder: Path) -> None:
        """Create a claim, and the volume that it is bound to: a folder of the node."""
        common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
        volume = f"{self.name}-{name}"
        spec = {**common, "capacity": {"storage": "1Gi"}, "hostPath": {"path": str(folder)}}
        self.api.post("/api/v1/persistentvolumes", {"metadata": {"name": volume}, "spec": spec})
        self._volumes.append(volume)
        claim = {**common, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}}
        self.api.post(self.path("persistentvolumeclaims"), {"metadata": {"name": name}, "spec": claim})

    def drain(self) -> None:
        """Evict all pods, as `kubectl drain` does with those of a node."""
        for pod in self.items("pods"):
            name = pod["metadata"]["name"]
            body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.name}}
            self.api.post(f"{self.path('pods')}/{name}/eviction", body)

    @contextmanager
    def quota(self, **hard: str) -> Iterator[None]:
        """Limit what there may be while the block runs."""
        path = self.path("resourcequotas")
        self.api.post(path, {"metadata": {"name": "limit"}, "spec": {"hard": hard}})
        until = time.monotonic() + 10
        while not self.api.get(f"{path}/limit").get("status", {}).get("hard"):
            assert time.monotonic() < until
            time.sleep(0.05)
        yield
        self.api.delete(f"{path}/limit")

    def clear(self) -> None:
        """Delete all that runs leave."""
        for kind in (*OPERATED, "jobs", "deployments", "services", "secrets", "pods"):
            for item in self.items(kind):
                body = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
                with suppress(ApiError):
                    self.api.delete(f"{self.path(kind)}/{item['metadata']['name']}", body)

    def close(self) -> None:
        """Delete it with all that is in it."""
        self.forwarder.close()
        self.api.delete(f"/api/v1/namespaces/{self.name}")
        for volume in self._volumes:
            self.api.delete(f"/api/v1/persistentvolumes/{volume}")
