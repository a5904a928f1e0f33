"""Services on this machine: the embedded server, as a process that outlives the client."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mlfn import errors
from mlfn.backends.hosts.base import ServiceRecord, State, VersionRecord
from mlfn.backends.hosts.checks import not_found, refuse_other_triggers
from mlfn.backends.hosts.engine import engine_of
from mlfn.backends.hosts.run_files import internal_token
from mlfn.backends.hosts.server_options import NEEDS_UVICORN, ServerOptions
from mlfn.backends.hosts.status import FILE as STATUS
from mlfn.backends.hosts.status import Status
from mlfn.backends.kinds.nuclio.options import Nuclio
from mlfn.backends.places.base import PlaceConfig
from mlfn.backends.places.binding import binding_of
from mlfn.backends.places.local.environments import Environments
from mlfn.errors import MissingExtraError, MlfnError, OptionError, ServiceError
from mlfn.host.identity import ProcessIdentity, new_id, now
from mlfn.host.private_files import ensure_folder, locked
from mlfn.host.private_files import replace as write_whole
from mlfn.settings.secrets import Secret, read_secret, withheld
from mlfn.spec.plan import Plan

FOLDER = "services"
_RECORD = "service.json"
_SCALE = "scale.json"
_LOG = "server.log"
_MOST_REPLICAS = 256
_SERVERS = {False: "mlfn.serving.server", True: "mlfn.serving.engine"}
_KEPT = 10  # versions that a rollback may return to
_POLL = 0.02
_LOOK = 0.1  # seconds between two readings of a log that is followed
_LAST_LOG = 3000  # bytes


class LocalHost:
    """The services of one data folder."""

    NAME = "local"

    def __init__(self, config: PlaceConfig) -> None:
        self._config = config
        self._root = config.folder / FOLDER

    # -- deploying
    def deploy(self, plan: Plan, *, again: bool = False) -> tuple[ServiceRecord, bool]:
        """Start the server of a plan, and return its service once it is ready, and whether it was to be started."""
        kind = Nuclio(**plan.kind.options)
        folder = ensure_folder(self._folder(plan.project, plan.name))
        with locked(folder / _RECORD):  # of two that deploy at the same time, the second finds what the first has done
            former = self._read(folder)
            if former and not again and former.state == "ready" and former.version.hash == plan.function:
                return former, False
            return self._replace(plan, kind, folder, former), True

    def _replace(self, plan: Plan, kind: Nuclio, folder: Path, former: ServiceRecord | None) -> ServiceRecord:
        number = former.version.number + 1 if former else 1
        own = ensure_folder(folder / f"version-{number}")
        replicas = former.replicas if former and former.state == "ready" else max(1, kind.bounds[0])
        options = self._options(plan, kind, own, port=self._port(kind, former), replicas=replicas)
        ready_timeout = float(kind.ready_timeout)
        is_over = former is not None and self._must_end_first(former, options)
        if former is not None and is_over:
            proof = self._start(plan, own, replace(options, port=0), ready_timeout=ready_timeout)
            _end(proof.process, options.grace)
            self._end(former)
        status = self._start(plan, own, options, ready_timeout=ready_timeout)
        record = ServiceRecord(
            name=plan.name,
            project=plan.project,
            host=self.NAME,
            state="ready",
            url=str(status.url),
            replicas=replicas,
            versions=(*(former.versions if former else ()), VersionRecord(number, plan.function, plan.hash, now()))[
                -_KEPT:
            ],
            handle={"process": dict(status.process), "folder": str(own)},
            token=_reference(kind.http.token),
        )
        self._write(folder, record)
        if former is not None and not is_over:
            self._end(former)
        return record

    def _must_end_first(self, former: ServiceRecord, options: ServerOptions) -> bool:
        """Say whether the version before is to end before the new one begins: Nuclio's processor shares its port with none.

        That the new one begins at all is seen at another port first.
        """
        is_shared = options.engine is None and not _has_engine(former)
        return not is_shared and former.state == "ready" and former.url.endswith(f":{options.port}")

    def _options(self, plan: Plan, kind: Nuclio, own: Path, *, port: int, replicas: int) -> ServerOptions:
        http = kind.http
        payload = own / "payload"  # one of its own: what no run needs any more is removed from the common ones
        shutil.copyfile(self._config.folder / "payloads" / plan.payload, payload)
        payload.chmod(0o600)
        binding = {**binding_of(plan, self._config, new_id()), "payload": str(payload)}
        return ServerOptions(
            **ServerOptions.of_plan(plan, kind),
            binding=json.loads(json.dumps(binding, default=list)),
            host=http.host,
            port=port,
            workers=min(_MOST_REPLICAS, (http.workers or kind.workers) * replicas),
            token=self._value(http.token) if http.token else None,
            passwords={name: self._value(secret) for name, secret in kind.passwords.items()},
            internal=internal_token(self._config.key, plan.project, plan.name),
            grace=max(self._config.grace, plan.timeout or 0),
            engine=engine_of(plan, kind, self._config) if self._config.processor else None,
        )

    def _value(self, token: Secret) -> str:
        return read_secret(token, environ=os.environ, file=self._config.secrets_file)

    def _port(self, kind: Nuclio, former: ServiceRecord | None) -> int:
        """Return the port of the version before, which hands over; else the one that is asked for, where it is free."""
        http = kind.http
        if former is not None and former.state == "ready":
            port = int(former.url.rpartition(":")[2])
            if http.port == port or (http.port is None and not self._config.processor and not _has_engine(former)):
                return port
        if http.port is not None:
            refuse_taken(http.host, http.port)
        return http.port or 0

    def _start(self, plan: Plan, own: Path, options: ServerOptions, *, ready_timeout: float) -> Status:
        if options.engine is None:
            refuse_other_triggers(plan)
            if not plan.requirements and importlib.util.find_spec("uvicorn") is None:
                raise MissingExtraError(NEEDS_UVICORN)
        (own / STATUS).unlink(missing_ok=True)
        variables = options.write(own)
        with open(own / _LOG, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
            subprocess.run(
                [self._python(plan), "-m", _SERVERS[options.engine is not None], str(own)],
                env=_environ(options, variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                check=False,
            )
        until = time.monotonic() + ready_timeout
        while (status := Status.read(own)) is None or (status.state == "starting" and _is_alive(status.process)):
            if time.monotonic() > until:
                break
            time.sleep(_POLL)
        if status is not None and status.state == "ready":
            return status
        raise self._not_begun(plan, own, status, ready_timeout)

    def _not_begun(self, plan: Plan, own: Path, status: Status | None, ready_timeout: float) -> MlfnError:
        if status is not None and status.state == "starting" and _is_alive(status.process):
            _signal(status.process, signal.SIGKILL)
            why = f"was not ready within {ready_timeout:g} seconds (Nuclio(ready_timeout=...))"
        else:
            why = "did not begin"
        said = (status.error if status else None) or _tail(own / _LOG)
        text = f"The service {plan.name} {why}; the version before it, if there was one, goes on. It said:\n{said}"
        kind: Any = getattr(errors, (status.kind if status else None) or "", None)
        # Code that cannot be loaded there is no fault of the service.
        made: MlfnError = kind(text) if kind in (errors.SkewError, errors.RebuildError) else ServiceError(text)
        return made

    def _python(self, plan: Plan) -> str:
        """Return the interpreter that has the function's requirements; builds it where there is none yet."""
        import threading

        built = threading.Event()
        environments = Environments(self._config.folder / "environments", built.set)
        while (python := environments.python_for(plan.requirements)) is None:
            built.wait(_POLL)
            built.clear()
        return python

    # -- what is there
    def find(self, project: str, name: str) -> ServiceRecord | None:
        """Return a service as it is now."""
        return self._read(self._folder(project, name))

    def list_services(self) -> list[ServiceRecord]:
        """Return all services."""
        found = [self._read(path.parent) for path in sorted(self._root.glob(f"*/*/{_RECORD}"))]
        return sorted((record for record in found if record is not None), key=lambda item: (item.project, item.name))

    def scale(self, project: str, name: str, replicas: int) -> ServiceRecord:
        """Have the server run more or fewer processes, and return when they are there."""
        if isinstance(replicas, bool) or not isinstance(replicas, int) or not 1 <= replicas <= _MOST_REPLICAS:
            raise OptionError(f"scale({replicas!r}): a whole number from 1 to {_MOST_REPLICAS} is allowed.")
        folder = self._folder(project, name)
        with locked(folder / _RECORD):
            record = self._required(project, name)
            own = Path(record.handle["folder"])
            options = json.loads((own / "server.json").read_bytes())
            workers = max(1, options["workers"] // record.replicas) * replicas
            write_whole(own / _SCALE, json.dumps(workers).encode())
            _signal(record.handle["process"], signal.SIGHUP)
            write_whole(own / "server.json", json.dumps({**options, "workers": workers}).encode())
            record = replace(record, replicas=replicas)
            self._write(folder, record)
            return record

    def delete(self, project: str, name: str) -> None:
        """End the server after what it has begun, and remove its folder."""
        folder = self._folder(project, name)
        record = self._required(project, name)
        with locked(folder / _RECORD):
            self._end(record)
            shutil.rmtree(folder, ignore_errors=True)

    def address(self, record: ServiceRecord) -> str:
        """Return where a service answers."""
        return record.url

    def token(self, record: ServiceRecord) -> str | None:
        """Return the token that requests have to bring; None where there is none."""
        return None if record.token is None else self._value(Secret(**record.token))

    def lines(self, record: ServiceRecord, *, follow: bool, which: str) -> Iterator[str]:
        """Yield the lines of a log; with `follow`, also those of the versions that come."""
        offset, rest = 0, b""
        while True:
            data = self._read_log(record, offset, which)
            offset += len(data)
            *lines, rest = (rest + data).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)
            if data:
                continue
            if not follow:
                if rest:
                    yield rest.decode("utf-8", "replace")
                return
            time.sleep(_LOOK)
            found = self.find(record.project, record.name)
            if found is None or found.state != "ready":
                follow = False  # what it wrote last is read, and no more comes
            elif found.handle != record.handle:
                record, offset, rest = found, 0, b""

    def _read_log(self, record: ServiceRecord, offset: int, which: str) -> bytes:
        try:
            with open(Path(record.handle["folder"]) / f"{which}.log", "rb") as file:
                file.seek(offset)
                return file.read(1 << 20)
        except FileNotFoundError:
            return b""

    def _required(self, project: str, name: str) -> ServiceRecord:
        record = self.find(project, name)
        if record is None:
            known = [item.name for item in self.list_services() if item.project == project]
            raise not_found(project, name, known)
        return record

    def _end(self, record: ServiceRecord) -> None:
        """SIGTERM, and SIGKILL to what has not ended when all that it had begun should have."""
        grace = 0.0
        with contextlib.suppress(OSError, ValueError):
            grace = json.loads((Path(record.handle["folder"]) / "server.json").read_bytes())["grace"]
        _end(record.handle["process"], grace)

    def _folder(self, project: str, name: str) -> Path:
        return self._root / _slug(project) / _slug(name)

    def _read(self, folder: Path) -> ServiceRecord | None:
        try:
            data = json.loads((folder / _RECORD).read_bytes())
        except FileNotFoundError:
            return None
        versions = tuple(VersionRecord(**item) for item in data.pop("versions"))
        record = ServiceRecord(**{**data, "versions": versions})
        return record if _is_alive(record.handle["process"]) else replace(record, state=self._end_of(record))

    def _end_of(self, record: ServiceRecord) -> State:
        status = Status.read(Path(record.handle["folder"]))
        return "ended" if status is not None and status.state == "ended" else "gone"

    def _write(self, folder: Path, record: ServiceRecord) -> None:
        write_whole(folder / _RECORD, json.dumps(asdict(record)).encode())


def refuse_taken(host: str, port: int) -> None:
    """Raise ServiceError where another process listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServiceError(
                f"Nothing can listen at {host}:{port} ({error.strerror}): another process does. Give another port, as in "
                "mlfn.Http(port=8081), or leave port out for a free one."
            ) from error


def _end(process: Mapping[str, Any], grace: float) -> None:
    _signal(process, signal.SIGTERM)
    until = time.monotonic() + grace + 2.0
    while _is_alive(process) and time.monotonic() < until:
        time.sleep(_POLL)
    if _is_alive(process):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process["pid"], signal.SIGKILL)


def _has_engine(record: ServiceRecord) -> bool:
    """Say whether Nuclio's processor serves it."""
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads((Path(record.handle["folder"]) / "server.json").read_bytes()).get("engine"))
    return False


def _reference(secret: Secret | None) -> Mapping[str, Any] | None:
    return None if secret is None else {"name": secret.name, "key": secret.key}


def _is_alive(process: Mapping[str, Any]) -> bool:
    return ProcessIdentity(**process).state() in ("alive", "stopped")


def _signal(process: Mapping[str, Any], number: int) -> None:
    if _is_alive(process):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process["pid"], number)


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-_LAST_LOG:].decode("utf-8", "replace").strip() or "nothing"
    except OSError:
        return "nothing"


def _environ(options: ServerOptions, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a server: this process's, without the secrets that functions name."""
    kept = {name: value for name, value in os.environ.items() if name not in withheld()}
    path = [str(options.binding["root"]), *filter(None, [kept.get("PYTHONPATH", "")])]
    return {**kept, **variables, "PYTHONPATH": os.pathsep.join(path)}


def _slug(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    if plain == name and plain not in (".", "..") and len(plain) <= 100:
        return plain
    return f"{plain[:80]}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
