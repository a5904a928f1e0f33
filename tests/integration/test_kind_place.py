"""How runs end, what becomes of clients, sweeps and safety, for each kind at each place; the rest is tests/contract's."""

from __future__ import annotations

from mlfn.testing.kind_place import ClientsCases, EndsCases, KindPlaceContract, SafetyCases, SweepsCases
from tests.kind_places import JobInline, JobOnLocal, MpiOnLocal, NuclioOnLocal


class TestEndsOfJobOnLocal(JobOnLocal, EndsCases): ...


class TestClientsOfJobOnLocal(JobOnLocal, ClientsCases): ...


class TestSweepsOfJobOnLocal(JobOnLocal, SweepsCases): ...


class TestSafetyOfJobOnLocal(JobOnLocal, SafetyCases): ...


class TestEndsOfJobInline(JobInline, EndsCases): ...


class TestClientsOfJobInline(JobInline, ClientsCases): ...


class TestSweepsOfJobInline(JobInline, SweepsCases): ...


class TestSafetyOfJobInline(JobInline, SafetyCases): ...


class TestMpiOnLocal(MpiOnLocal, KindPlaceContract): ...


class TestEndsOfNuclioOnLocal(NuclioOnLocal, EndsCases): ...


class TestClientsOfNuclioOnLocal(NuclioOnLocal, ClientsCases): ...


class TestSweepsOfNuclioOnLocal(NuclioOnLocal, SweepsCases): ...


class TestSafetyOfNuclioOnLocal(NuclioOnLocal, SafetyCases): ...
