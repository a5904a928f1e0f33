"""`mlfn rbac`."""

from __future__ import annotations

import click

from mlfn.spec.yaml_text import to_yaml
from mlfn.ui.cli.commands import Chosen, command
from mlfn.ui.cli.printing import say, write_json


@command("rbac")
@click.option("--namespace", metavar="NAMESPACE", default="default", show_default=True, help="Whose runs it allows.")
def rbac(chosen: Chosen, *, namespace: str) -> None:
    """Print the Role that a user of on='kubernetes' needs in a namespace, with exactly the verbs used: `mlfn rbac | kubectl apply -f -`."""
    from mlfn.backends.places.kubernetes.roles import role  # light: it loads no client

    found = role(namespace)
    if chosen.json:
        write_json(found)
    else:
        say(to_yaml(found).rstrip())
