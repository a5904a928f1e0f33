"""The kind `nuclio`: its options, and the configuration that its engine takes; without one."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.backends.kinds.nuclio.configuration import configuration, function_name
from mlfn.backends.kinds.nuclio.cron import check_schedule, next_time
from mlfn.backends.kinds.nuclio.triggers import shown_duration
from mlfn.backends.registry import changed_options, kind_options
from mlfn.errors import OptionError
from mlfn.settings.secrets import Secret
from mlfn.spec.call_shape import CallShape
from mlfn.spec.plan import Plan
from mlfn.spec.yaml_text import from_yaml, to_yaml

GOLDEN = Path(__file__).parents[2] / "data" / "nuclio"
PASSWORD = mlfn.Secret("BROKER_PASSWORD")
BODY: dict[str, Any] = {
    **dict.fromkeys(("function", "payload"), "0123456789abcdef"),
    "name": "score",
    "project": "fraud",
    "cwd": "",
    "place": {"name": "local", "options": {}},
    "shape": vars(CallShape()),
    **{name: [] for name in ("accepts", "outputs", "requirements", "sys_path", "by_reference", "secrets")},
    "retry": None,
    "sources": {},
}


def planned(kind: mlfn.Nuclio, **more: Any) -> Plan:
    return Plan.of_body({**BODY, "kind": {"name": "nuclio", "options": changed_options(kind)}, **more}, hash="0")


CASES: dict[str, tuple[mlfn.Nuclio, dict[str, Any]]] = {
    "plain": (mlfn.Nuclio(), {}),
    "full": (
        mlfn.Nuclio(
            replicas=(0, 10),
            triggers=[
                mlfn.Http(
                    workers=4, port=30080, cors=["https://app.example.com"], ingresses={"api.example.com": "/score"}
                ),
                mlfn.Cron("*/5 * * * *", body="{}", headers={"X-Job": "nightly"}),
                mlfn.Cron(interval="90s", name="often"),
            ],
            workers=2,
            target_cpu=60,
            ready_timeout="3m",
            build_commands=["apt-get install -y libgomp1"],
            service_type="NodePort",
            service_account="scoring",
            security_context={"runAsNonRoot": True},
        ),
        {
            "cpu": 1.5,
            "mem": 512 << 20,
            "gpus": 1,
            "image": "python:3.11",
            "requirements": ["scikit-learn==1.5", "x; python_version < '3.12'"],
            "env": {"MODE": "fast"},
            "secrets": [{"name": "S3_CREDS", "key": "token", "env": None}],
            "timeout": 30.0,
            "node": {"selector": {"pool": "gpu"}, "priority": "high", "spot": "prevent"},
        },
    ),
    "brokers": (
        mlfn.Nuclio(
            triggers=[
                mlfn.Kafka(
                    topics=["orders"], brokers=["kafka:9092"], group="scoring", username="me", password=PASSWORD
                ),
                mlfn.Kafka(topics="acks", brokers="kafka:9092", group="scoring", explicit_ack="enable", name="acks"),
                mlfn.Nats(url="nats://broker:4222", topic="orders.*", queue="scoring"),
                mlfn.Mqtt(url="tcp://broker:1883", topics=["sensors/#"], qos=1, username="me", password=PASSWORD),
                mlfn.RabbitMq(url="amqp://broker:5672", exchange="orders", topics=["new"], durable=True, prefetch=8),
                mlfn.Kinesis(stream="orders", region="eu-west-1", shards=["shardId-000000000000"]),
                mlfn.V3ioStream(url="https://v3io:8081", container="projects", path="/orders", group="scoring"),
            ]
        ),
        {},
    ),
    "prebuilt": (mlfn.Nuclio(prebuilt=True, replicas=3), {"image": "registry.example.com/score:1"}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_configuration_is_as_it_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlfn.backends.kinds.nuclio.configuration.__version__", "1.2.3")
    monkeypatch.setattr("mlfn.backends.kinds.nuclio.configuration.runtime", lambda: "python:3.11")
    kind, more = CASES[name]

    text = to_yaml(configuration(kind, planned(kind, **more)))

    path = GOLDEN / f"{name}.yaml"
    assert text == path.read_text(), f"it has changed: {path}"


def test_the_source_is_the_engines_own_form() -> None:
    kind = mlfn.Nuclio()
    made = configuration(kind, planned(kind))

    source = base64.b64decode(made["spec"]["build"]["functionSourceCode"]).decode()
    namespace = compile(source, "mlfn_handler.py", "exec").co_names
    assert {"init_context", "handler"} <= set(namespace)
    assert made["spec"]["handler"] == "mlfn_handler:handler"


def test_a_plan_shows_the_configuration() -> None:
    @mlfn.function(kind=mlfn.Nuclio(triggers=[mlfn.Cron("@hourly")]), timeout="2s")
    def score(x: int = 1) -> int:
        return x

    made = from_yaml(score.plan())["creates"]["service"]

    assert made["apiVersion"] == "nuclio.io/v1"
    assert list(made["spec"]["triggers"]) == ["cron"]
    # Shorter limits of the engine end good requests; mlfn keeps the shorter one itself.
    assert made["spec"]["eventTimeout"] == "10s"


def test_options_survive_the_store() -> None:
    for kind, _ in CASES.values():
        stored = changed_options(kind)
        again = mlfn.Nuclio(**stored)

        assert again == kind
        assert changed_options(again) == stored
        assert pickle.loads(pickle.dumps(kind)) == kind


def test_defaults_change_no_hash() -> None:
    def score(x: int) -> int:
        return x

    plain = mlfn.function(score, kind="nuclio")
    same = mlfn.function(score, kind=mlfn.Nuclio(replicas=1, ready_timeout="2m"))
    other = mlfn.function(score, kind=mlfn.Nuclio(triggers=[mlfn.Http(workers=2)]))

    assert plain.hash == same.hash != other.hash
    assert plain.spec["kind"] == {"name": "nuclio"}


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: mlfn.Nuclio(replicas=0), r"Nuclio\(replicas=0\): a number from 1"),
    (lambda: mlfn.Nuclio(replicas=(3, 1)), r"Nuclio\(replicas=\(3, 1\)\)"),
    (lambda: mlfn.Nuclio(replica=2), "no option 'replica'.*did you mean 'replicas'"),
    (lambda: mlfn.Nuclio(triggers=[mlfn.Http]), r"the class mlfn.Http: add \(\)"),
    (lambda: mlfn.Nuclio(triggers=["http"]), "'http', which is no trigger"),
    (lambda: mlfn.Nuclio(triggers="http"), "a list is allowed"),
    (lambda: mlfn.Nuclio(triggers=[mlfn.Http(), mlfn.Http(name="b")]), "two mlfn.Http"),
    (lambda: mlfn.Nuclio(triggers=[mlfn.Http(name="a"), mlfn.Cron("@daily", name="a")]), "two that are called 'a'"),
    (lambda: mlfn.Nuclio(replicas=(0, 2), triggers=[mlfn.Cron("@daily")]), "needs an mlfn.Http trigger"),
    (lambda: mlfn.Nuclio(service_type="LoadBalancer"), "ClusterIP, NodePort"),
    (lambda: mlfn.Nuclio(ready_timeout="soon"), "Nuclio: ready_timeout='soon' is no duration"),
    (lambda: mlfn.Http(host="0.0.0.0"), "add token=mlfn.Secret"),
    (lambda: mlfn.Http(token="hunter2"), r"Http\(token=...\) got a str: a reference"),
    (lambda: mlfn.Http(max_body="lots"), "Http: max_body='lots' is no size"),
    (lambda: mlfn.Http(cors=["*", "https://a.example"]), "give it alone"),
    (lambda: mlfn.Http(port=70000), "a whole number from 1 to 65535"),
    (lambda: mlfn.Http(ingresses={"a.example": ["score"]}), "hosts and their paths"),
    (lambda: mlfn.Http(attributes={"adminPassword": "x"}), "would put a secret's value"),
    (lambda: mlfn.Http(workers=0), "a whole number from 1"),
    (lambda: mlfn.Http(name="My trigger"), "small ASCII letters"),
    (mlfn.Cron, "one of the two is required"),
    (lambda: mlfn.Cron("* * * *"), "has 4 fields"),
    (lambda: mlfn.Cron("61 * * * *"), "the minute '61' does not fit: 0 to 59"),
    (lambda: mlfn.Cron("* * 30 2 *"), "never fires"),
    (lambda: mlfn.Cron("* * * foo *"), "the month 'foo'"),
    (lambda: mlfn.Cron("*/0 * * * *"), r"the minute '\*/0'"),
    (lambda: mlfn.Nats(url="nats://b", topic="t"), r"Nats\(queue=''\): a text is required"),
    (lambda: mlfn.Nats(url="broker", topic="t", queue="q"), "a URL of nats is required"),
    (lambda: mlfn.Mqtt(url="tcp://me:pw@b:1883", topics=["t"]), "holds a login"),
    (lambda: mlfn.Mqtt(url="tcp://b:1883", topics=["t"], qos=3), "from 0 to 2"),
    (lambda: mlfn.Mqtt(url="tcp://b:1883"), r"Mqtt\(topics=\(\)\)"),
    (lambda: mlfn.RabbitMq(url="amqp://b", exchange="e"), "both queue= and topics="),
    (lambda: mlfn.Kafka(topics="t", brokers="b", group="g", initial_offset="first"), "earliest, latest"),
    (lambda: mlfn.Kinesis(stream="s", region="r"), r"Kinesis\(shards=\(\)\)"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=[words[:30] for _, words in REFUSED])
def test_what_does_not_fit_is_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        make()


def test_a_secret_is_a_reference_everywhere() -> None:
    kind = CASES["brokers"][0]

    assert changed_options(kind)["triggers"][0]["password"] == {"name": "BROKER_PASSWORD"}
    assert kind_options(kind)[1].triggers[0].password == Secret("BROKER_PASSWORD")


@pytest.mark.parametrize(
    ("text", "after", "then"),
    [
        ("*/5 * * * *", "2026-01-01 00:00:00", "2026-01-01 00:05:00"),
        ("0 3 * * mon-fri", "2026-01-02 04:00:00", "2026-01-05 03:00:00"),
        ("0 0 29 2 *", "2026-01-01 00:00:00", "2028-02-29 00:00:00"),
        ("0 0 13 * 5", "2026-01-01 00:00:00", "2026-01-02 00:00:00"),
        ("30 */2 1,15 jan *", "2026-01-15 23:00:00", "2027-01-01 00:30:00"),
        ("@daily", "2026-12-31 00:00:00", "2027-01-01 00:00:00"),
        ("*/10 * * * * *", "2026-01-01 00:00:05", "2026-01-01 00:00:10"),
        ("* 0 0 * * *", "2026-01-01 00:00:00", "2026-01-02 00:00:00"),
        ("0 0 * * 7", "2026-01-01 00:00:00", "2026-01-04 00:00:00"),
    ],
)
def test_a_schedule_fires_next_at(text: str, after: str, then: str) -> None:
    found = next_time(check_schedule(text), datetime.fromisoformat(after))

    assert str(found) == then


def test_names_of_the_engine_are_dns_labels() -> None:
    assert function_name("fraud", "score") == "fraud-score"
    names = {function_name("fraud", name) for name in ("Score", "score_", "scöre", "s" * 200, "score.1")}

    assert len(names) == 5
    assert all(len(name) <= 56 and name.replace("-", "a").isalnum() and name.isascii() for name in names)


@pytest.mark.parametrize(("seconds", "shown"), [(10.0, "10s"), (0.25, "250ms"), (90, "90s")])
def test_durations_are_the_engines(seconds: float, shown: str) -> None:
    assert shown_duration(seconds) == shown
