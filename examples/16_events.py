"""Call a function by a schedule and by messages of a broker.

You learn: what triggers say, how to try their events without a server, and how a deployed function consumes an MQTT topic. Needs
`pip install 'mlfn[nuclio]'`; with a broker of yours as argument, tcp://host:1883, it is deployed there until ctrl-C.
"""

import contextlib
import sys

import mlfn

BROKER = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:1883"
KIND = mlfn.Nuclio(
    triggers=[
        mlfn.Cron("0 6 * * *", body='{"source": "schedule", "value": 20.0}', name="morning"),
        mlfn.Mqtt(BROKER, ["sensors/#"], qos=1, client_id="note-sensors"),
    ]
)


@mlfn.function(kind=KIND)
def note(source: str, value: float, ctx: mlfn.Context) -> str:
    """Note a measure; `qos=1` and a client id have the broker send again what was not handled."""
    ctx.log_metric("value", value)
    return f"{source} has {value} °C"


if __name__ == "__main__":
    mock = note.mock()
    print(mock.event(trigger="morning").text)
    print(mock.event({"source": "kitchen", "value": 21.5}, trigger="mqtt", topic="sensors/kitchen").text)
    print(mock.event({"source": "kitchen"}, trigger="mqtt", topic="sensors/kitchen").json()["error"])

    if len(sys.argv) > 1:
        service = note.deploy()
        print(f"{service.name} takes messages of sensors/# from {BROKER}; its log:", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            for line in service.logs(follow=True):
                print(line, flush=True)
        service.delete()
