"""A function's service without a server: what reads well in a user's own tests."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.errors import DeclarationError, MissingExtraError, OptionError, ParameterError, ServiceError

BROKER = mlfn.Mqtt(url="tcp://broker:1883", topics=["sensors/kitchen", "sensors/hall"])
KIND = mlfn.Nuclio(triggers=[mlfn.Http(workers=4), mlfn.Cron("*/5 * * * *", body='{"x": 5}'), BROKER], replicas=(1, 10))


@mlfn.function(kind=KIND)
def double(x: int) -> int:
    return 2 * x


@mlfn.function(kind=KIND)
def where(context: Any, event: Any) -> dict[str, Any]:
    return {
        "trigger": event.trigger.kind,
        "path": event.path,
        "topic": event.topic,
        "url": event.url,
        "shard": event.shard_id,
        "offset": event.offset,
        "body": event.body.decode(),
        "header": event.get_header("x-a"),
    }


def test_a_call_returns_the_value() -> None:
    mock = double.mock()

    assert mock(x=4) == 8
    with pytest.raises(ServiceError, match="400: double\\(\\) lacks parameter 'x'"):
        mock()


def test_a_call_raises_the_functions_own_exception() -> None:
    @mlfn.function(kind="nuclio")
    def divide(x: int) -> float:
        return 1 / x

    with pytest.raises(ZeroDivisionError):
        divide.mock()(x=0)

    answer = divide.mock().post({"x": 0})
    assert (answer.status, type(answer.error)) == (500, ZeroDivisionError)
    assert "division" not in answer.text


def test_an_event_of_cron_has_its_body() -> None:
    assert double.mock().event().value() == 10
    assert double.mock().event(trigger="cron").value() == 10
    assert where.mock().event(trigger="cron").json()["trigger"] == "cron"


@pytest.mark.parametrize(
    ("trigger", "more", "expected"),
    [
        ("mqtt", {}, {"trigger": "mqtt", "path": "sensors/kitchen", "topic": "sensors/kitchen", "url": BROKER.url}),
        ("mqtt", {"topic": "sensors/hall"}, {"path": "sensors/hall", "topic": "sensors/hall"}),
        (mlfn.Nats(url="nats://b:1", topic="o.*", queue="q"), {"topic": "o.1"}, {"trigger": "nats", "path": "o.1"}),
        (
            mlfn.Kafka(topics="orders", brokers="b", group="g"),
            {"shard": 3, "offset": 7, "headers": {"X-A": "1"}},
            {"trigger": "kafka-cluster", "topic": "orders", "shard": 3, "offset": 7, "header": "1"},
        ),
        (
            mlfn.RabbitMq(url="amqp://b", exchange="e", topics=["new"]),
            {"topic": "new"},
            {"trigger": "rabbit-mq", "path": "e/new"},
        ),
        (mlfn.Kinesis(stream="s", region="r", shards="0"), {"shard": 0}, {"trigger": "kinesis", "shard": 0}),
    ],
)
def test_each_trigger_has_its_event(trigger: Any, more: dict[str, Any], expected: dict[str, Any]) -> None:
    answer = where.mock().event({"x": 1}, trigger=trigger, **more).json()

    assert {name: answer[name] for name in expected} == expected
    assert json.loads(answer["body"]) == {"x": 1}


def test_a_broker_may_bring_plain_values() -> None:
    assert double.mock().event("21", trigger="mqtt").value() == 42
    assert double.mock().event({"x": 4}, trigger="mqtt").value() == 8
    assert double.mock().event("many", trigger="mqtt").status == 400


def test_an_unknown_trigger_is_named() -> None:
    with pytest.raises(ParameterError, match=r"has none of that name\. did you mean 'cron'"):
        double.mock().event(trigger="crom")


def test_a_context_gives_secrets_and_keeps_metrics(caplog: pytest.LogCaptureFixture) -> None:
    @mlfn.function(kind="nuclio", secrets=["API_TOKEN"])
    def fit(ctx: mlfn.Context, n: int) -> str:
        ctx.log_metric("loss", 1 / n)
        ctx.log_result("n", n)
        ctx.log_result("n", n)
        return ctx.secret("API_TOKEN")

    mock = fit.mock(secrets={"API_TOKEN": "sesame"})

    assert mock(n=4) == "sesame"
    assert mock.metrics == {"loss": 0.25}
    assert [record.message for record in caplog.records if "keeps no results" in record.message] == [
        "A service keeps no results of fit: fit.submit() makes a run, which does"
    ]


def test_a_context_deep_below_is_that_of_the_service() -> None:
    def deep() -> float:
        mlfn.context().log_metric("deep", 1.0)
        return 1.0

    @mlfn.function(kind="nuclio")
    def shallow(ctx: mlfn.Context) -> float:
        return deep()

    mock = shallow.mock()
    mock()

    assert mock.metrics == {"deep": 1.0}


def test_init_context_is_called_once() -> None:
    from mlfn.testing.handler import functions

    mock = functions.classic.mock()

    assert [mock.post({}).json()["begun"] for _ in range(2)] == [1, 1]


def test_a_failing_init_context_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlfn.testing.handler import functions

    def broken(context: Any) -> None:
        raise RuntimeError("no model")

    monkeypatch.setattr(functions, "init_context", broken)

    with pytest.raises(RuntimeError, match="no model"):
        functions.classic.mock()


def test_a_classic_handler_is_called_plainly() -> None:
    class Event:
        body = "x"

    @mlfn.function(kind="nuclio")
    def echo(context: Any, event: Any) -> Any:
        return context, event.body

    assert echo("context", Event()) == ("context", "x")


def test_init_context_counts_as_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    source = """
import mlfn

def init_context(context):
    context.user_data.model = {model!r}

@mlfn.function(kind="nuclio")
def classify(context, event):
    return context.user_data.model
"""

    def version(name: str, model: str) -> Any:
        (tmp_path / f"{name}.py").write_text(source.format(model=model))
        return importlib.import_module(name).classify

    one, same, other = version("one", "a"), version("two", "a"), version("three", "b")

    assert one.hash == same.hash != other.hash
    assert one.mock()() == "a"
    assert "one:init_context" in one.check().digest.part_digests


def test_another_kind_has_no_mock() -> None:
    with pytest.raises(OptionError, match=r"its kind is 'job': declare it with @mlfn.function\(kind='nuclio'\)"):
        mlfn.function(lambda x: x, name="f").mock()


def test_a_generator_streams_and_leaves_no_result() -> None:
    @mlfn.function(kind="nuclio")
    def count(n: int) -> Any:
        yield from range(n)

    assert count.mock()(n=3) == [0, 1, 2]
    with pytest.raises(OptionError, match="count is a generator function, which streams"):
        count.submit(n=3)
    with pytest.raises(DeclarationError, match="got the generator function count"):
        count.with_options(kind="job")


def test_a_stream_that_breaks_is_no_success() -> None:
    @mlfn.function(kind="nuclio")
    def breaking(n: int) -> Any:
        for number in range(n):
            if number == 2:
                raise ValueError("in the middle")
            yield number

    with pytest.raises(ValueError, match="in the middle"):
        breaking.mock().post({"n": 3})


def test_a_missing_sdk_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "nuclio_sdk", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'mlfn\[nuclio\]'"):
        where.mock()


def test_a_parameter_given_twice_is_refused() -> None:
    answer = double.mock().get(x=[1, 2])

    assert (answer.status, answer.json()["field"]) == (400, "x")
    assert "is given 2 times: send it once" in answer.json()["error"]
