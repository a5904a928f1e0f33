"""The whole suite of kind x place in what operators make of a real cluster; each run takes several pods."""

from __future__ import annotations

from mlfn.testing.kind_place import KindPlaceContract
from tests.cluster.room import RoomByQuota
from tests.kind_places import DaskOnKubernetes, HorovodOnKubernetes, SparkOnKubernetes


class TestDaskOnKubernetes(DaskOnKubernetes, RoomByQuota):
    pods = 3


class TestHorovodOnKubernetes(HorovodOnKubernetes, RoomByQuota):
    pods = HorovodOnKubernetes.ranks


class TestSparkOnKubernetes(SparkOnKubernetes, KindPlaceContract): ...
