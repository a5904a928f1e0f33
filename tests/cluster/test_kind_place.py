"""The whole suite of kind x place on a real cluster."""

from __future__ import annotations

from mlfn.testing.kind_place import KindPlaceContract
from tests.cluster.room import RoomByQuota
from tests.kind_places import JobOnKubernetes, MpiOnKubernetes, NuclioOnKubernetes


class TestJobOnKubernetes(JobOnKubernetes, RoomByQuota): ...


class TestMpiOnKubernetes(MpiOnKubernetes, RoomByQuota):
    pods = MpiOnKubernetes.ranks


class TestNuclioOnKubernetes(NuclioOnKubernetes, KindPlaceContract): ...
