"""`mlfn deploy`, `services`, `invoke` and `undeploy`: the life of services."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import click

from mlfn.errors import MlfnError, ParameterError
from mlfn.handles.service import Service
from mlfn.handles.services import service as find_service
from mlfn.handles.services import services as find_services
from mlfn.spec.yaml_text import to_yaml
from mlfn.ui.cli.commands import Chosen, command
from mlfn.ui.cli.exits import OK, RUN_FAILED
from mlfn.ui.cli.printing import complain, say, write_json, write_table
from mlfn.ui.cli.targets import find_function, with_options


@command("deploy", no_args_is_help=True)
@click.option(
    "-o", "options", multiple=True, metavar="NAME=VALUE", help="Change an option of @function, as -o env.MODE=fast."
)
@click.option("--again", is_flag=True, help="Deploy also what runs in this version already.")
@click.option("--dry-run", is_flag=True, help="Print what would be created, and create nothing.")
@click.argument("target")
def deploy(chosen: Chosen, target: str, options: Sequence[str], *, again: bool, dry_run: bool) -> None:
    """Deploy a function of kind nuclio as a service, and wait until it is ready.

    TARGET is file.py::name or module:name. The service goes on when this command has ended. With --on kubernetes it is a
    Deployment of the cluster that the kubeconfig names.
    """
    function = with_options(find_function(target), options)
    if dry_run:
        _print_creates(chosen, function.__mlfn_creates__())
        return
    service = function.deploy(again=again)
    if chosen.json:
        write_json({**_shown(service), "new": service.is_new})
        return
    say(service.address)
    if service.is_new:
        # What leads to a cluster from here ends with this command.
        try_it = (
            f"{service.url}/docs is a page to try it"
            if service.url == service.address
            else f"`mlfn invoke {service.name} NAME=VALUE` asks it from here"
        )
        complain(f"{service.name} is ready: {try_it}, `mlfn undeploy {service.name}` ends it.")


def _print_creates(chosen: Chosen, creates: Mapping[str, Any]) -> None:
    if chosen.json:
        write_json(creates)
    elif "manifests" in creates:
        say("---\n".join(map(to_yaml, creates["manifests"])).rstrip())
    else:
        say(to_yaml(creates).rstrip())


@command("services")
@click.option("--logs", is_flag=True, help="Print the log of one service.")
@click.option("--follow", "-f", is_flag=True, help="With --logs: go on as it comes.")
@click.argument("name", required=False)
def services(chosen: Chosen, name: str | None, *, logs: bool, follow: bool) -> None:
    """List the services of this machine, or with --on kubernetes those of the kubeconfig's namespace; or show one."""
    if logs or follow:
        if name is None:
            raise click.UsageError("--logs needs the name of a service.")
        for line in find_service(name).logs(follow=follow):
            say(line)
        return
    found = find_services() if name is None else [find_service(name)]
    if chosen.json:
        shown = [_shown(service) for service in found]
        write_json(shown if name is None else shown[0])
        return
    if not found:
        complain("no services here; `mlfn deploy file.py::name` makes one.")
        return
    _print_table(found)


@command("invoke", no_args_is_help=True)
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait so long for the answer at most.")
@click.argument("name")
@click.argument("given", nargs=-1, metavar="[NAME=VALUE]... | JSON | -")
def invoke(chosen: Chosen, name: str, given: Sequence[str], timeout: float | None) -> int:
    """Call a service and print its answer: parameters as NAME=VALUE, or a whole body, with - from stdin.

    A value is read as JSON where it is JSON, as in rows=[[1,2]], and is a text otherwise.
    """
    service = find_service(name)
    reply = service.post(_body(given), timeout=timeout)
    good = reply.status < 400
    if chosen.json:
        write_json({"status": reply.status, "content_type": reply.content_type, "answer": _plain(reply)})
    elif good:
        sys.stdout.flush()
        click.echo(reply.body, nl=not reply.body.endswith(b"\n"))
    else:
        from mlfn.serving.replies import said

        complain(f"{service.name} answered {reply.status}: {said(reply.body)}")
    return OK if good else RUN_FAILED


@command("undeploy", no_args_is_help=True)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def undeploy(chosen: Chosen, names: Sequence[str]) -> None:
    """End services after what they have begun, and remove them."""
    for name in names:
        find_service(name).delete()
        if not chosen.json:
            complain(f"{name} is removed.")
    if chosen.json:
        write_json({"removed": list(names)})


def _body(given: Sequence[str]) -> Any:
    if list(given) == ["-"]:
        return sys.stdin.buffer.read()
    if len(given) == 1 and given[0].lstrip()[:1] in ("{", "["):
        return given[0]
    params: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            raise ParameterError(
                f"{item!r} is neither NAME=VALUE nor JSON: write rows=[[1,2]], or '{{\"rows\": [[1, 2]]}}'."
            )
        try:
            params[name] = json.loads(text)
        except ValueError:
            params[name] = text
    return params


def _plain(reply: Any) -> Any:
    from mlfn.serving.replies import read_value

    value = read_value(reply.body, reply.content_type)
    return value if not isinstance(value, bytes) else f"<{len(value)} bytes of {reply.content_type or 'no type'}>"


def _shown(service: Service) -> dict[str, Any]:
    versions = service.versions
    return {
        "name": service.name,
        "project": service.project,
        "state": service.state,
        "url": service.address,
        "replicas": service.replicas,
        "version": versions[-1].hash,
        "number": versions[-1].number,
        "deployed": versions[-1].time,
    }


def _print_table(found: Sequence[Service]) -> None:
    from mlfn.ui.text import Column

    rows = []
    for service in found:
        try:
            rows.append(_shown(service))
        except MlfnError:  # deleted meanwhile
            continue
    when = [datetime.fromtimestamp(row["deployed"], tz=timezone.utc).astimezone() for row in rows]
    write_table(
        [
            Column("name", [row["name"] for row in rows]),
            Column("project", [row["project"] for row in rows]),
            Column("state", [row["state"] for row in rows]),
            Column("replicas", [str(row["replicas"]) for row in rows]),
            Column("version", [f"{row['number']} ({row['version'][:8]})" for row in rows]),
            Column("deployed", [f"{item:%Y-%m-%d %H:%M:%S}" for item in when]),
            Column("url", [row["url"] for row in rows]),
        ]
    )
