"""The cases. A subclass says how a function is served: ``serve(name)`` returns what sends requests to it."""

from __future__ import annotations

import io
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from mlfn.testing.handler.client import Caller, Reply

JSON = {"Content-Type": "application/json"}


class HandlerContract:
    """Events in, answers out. Members: the mock, the embedded server, the processor of Nuclio."""

    def serve(self, name: str) -> Caller:
        """Return what sends requests to one of `mlfn.testing.handler.functions`."""
        raise NotImplementedError

    def post(self, function: str, body: Any, path: str = "/", **headers: str) -> Reply:
        """Post JSON to a function."""
        return self.serve(function)("POST", path, body=json.dumps(body).encode(), headers={**JSON, **headers})

    def get(self, function: str, **query: Any) -> Reply:
        """Get with a query."""
        return self.serve(function)("GET", f"/?{urlencode(query, doseq=True)}")

    # -- what a typed function takes
    def test_json_becomes_parameters(self) -> None:
        reply = self.post("typed", {"rows": [[1, 2], [3.5]], "scale": 2})

        assert (reply.status, reply.content_type, reply.json()) == (200, "application/json", [6.0, 7.0])

    def test_a_query_becomes_parameters(self) -> None:
        assert self.get("typed", rows="[[1, 2]]", scale="2").json() == [6.0]
        assert self.get("later", seconds="0").json() == 0.0

    def test_a_form_becomes_parameters(self) -> None:
        call = self.serve("anything")
        reply = call("POST", body=b"first=1&second=2", headers={"Content-Type": "application/x-www-form-urlencoded"})
        # The values of **others are read as its annotation says.
        assert reply.json() == {"first": 1, "second": 2}

        body = b'--B\r\nContent-Disposition: form-data; name="data"; filename="a.bin"\r\n\r\n\x01\x02\r\n--B--\r\n'
        reply = self.serve("raw")("POST", body=body, headers={"Content-Type": "multipart/form-data; boundary=B"})
        assert reply.body == b"\x02\x01"

    def test_query_and_body_add_up(self) -> None:
        assert self.post("typed", {"rows": [[1]]}, path="/?scale=3").json() == [3.0]

        twice = self.post("typed", {"rows": [[1]], "scale": 2}, path="/?scale=3")
        assert (twice.status, twice.json()["field"]) == (400, "scale")

    def test_json_sent_as_a_form_is_read(self) -> None:
        reply = self.serve("typed")(
            "POST", body=b'{"rows": [[1]]}', headers={"Content-Type": "application/x-www-form-urlencoded"}
        )

        assert reply.json() == [1.0]

    def test_a_body_alone_is_the_only_parameter(self) -> None:
        assert self.post("typed", [[1], [2]]).json() == [1.0, 2.0]
        assert (
            self.serve("text")("POST", body="Zoë".encode(), headers={"Content-Type": "text/plain"}).body
            == "Hello, Zoë".encode()
        )
        assert (
            self.serve("raw")("POST", body=b"\x00\xff", headers={"Content-Type": "application/octet-stream"}).body
            == b"\xff\x00"
        )

    def test_charsets_are_read(self) -> None:
        reply = self.serve("text")(
            "POST", body="Zoë".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1"}
        )

        assert reply.body == "Hello, Zoë".encode()

    def test_annotated_types_are_made(self) -> None:
        reply = self.post(
            "rich", {"point": {"x": 1}, "colour": "blue", "day": "2026-01-31", "mode": "b", "tags": ["t"]}
        )

        assert reply.json() == {"x": 1, "y": 0, "colour": "BLUE", "day": "2026-01-31", "mode": "b", "tags": ["t"]}

    @pytest.mark.parametrize(
        ("body", "field", "words"),
        [
            ({}, "point", "lacks parameter 'point'"),
            ({"point": {"x": "1"}}, "point.x", "valid integer"),
            ({"point": {"x": 1, "z": 2}}, "point.z", "no such field"),
            ({"point": {}}, "point.x", "Field required"),
            ({"point": {"x": 1}, "colour": "green"}, "colour", "'red' or 'blue'"),
            ({"point": {"x": 1}, "mode": "c"}, "mode", "'a' or 'b'"),
            ({"point": {"x": 1}, "modes": "a"}, "modes", "did you mean 'mode'"),
            ({"point": {"x": 1}, "tags": ["t", 2]}, "tags[1]", "valid string"),
            ({"pointt": {"x": 1}}, "pointt", "did you mean 'point'"),
        ],
    )
    def test_what_does_not_fit_names_its_field(self, body: Any, field: str, words: str) -> None:
        reply = self.post("rich", body)

        assert reply.status == 400
        assert reply.json()["field"] == field
        assert words in reply.json()["error"]

    @pytest.mark.parametrize("query", [{"seconds": "soon"}, {}, {"seconds": "1", "minutes": "2"}])
    def test_a_query_that_misfits_is_refused(self, query: Any) -> None:
        assert self.get("later", **query).status == 400

    @pytest.mark.parametrize("body", [b"{", b"[1,", b"\xff\xfe", b'{"rows": [[1]]', b"nul"])
    def test_malformed_json_is_refused(self, body: bytes) -> None:
        reply = self.serve("typed")("POST", body=body, headers=JSON)

        assert reply.status == 400
        assert "no JSON" in reply.json()["error"]

    def test_a_number_for_named_parameters_is_refused(self) -> None:
        reply = self.post("named", [1, 2])
        assert reply.status == 400

        reply = self.post("rich", 7)
        assert (reply.status, reply.json()["field"]) == (400, "point")

    def test_another_content_type_is_refused(self) -> None:
        reply = self.serve("typed")("POST", body=b"x", headers={"Content-Type": "image/png"})

        assert reply.status == 415
        assert "'image/png' is not read" in reply.json()["error"]

    # -- what a typed function gives
    @pytest.mark.parametrize(
        ("what", "body"),
        [
            ("none", b"null"),
            ("true", b"true"),
            ("list", b"[1,2]"),
            ("empty", b"[]"),
            ("nan", b"null"),
            ("zero", b"0"),
            ("date", b'"2026-01-02"'),
        ],
    )
    def test_values_are_json(self, what: str, body: bytes) -> None:
        reply = self.post("value", {"what": what})

        assert (reply.status, reply.content_type, reply.body) == (200, "application/json", body)

    def test_text_and_bytes_stay_as_they_are(self) -> None:
        reply = self.post("text", {"name": "you"})
        assert (reply.content_type, reply.body) == ("text/plain", b"Hello, you")

        reply = self.serve("raw")("POST", body=b"ab", headers={"Content-Type": "application/octet-stream"})
        assert (reply.content_type, reply.body) == ("application/octet-stream", b"ba")

    def test_several_outputs_are_an_object(self) -> None:
        assert self.post("named", {"x": 2.0}).json() == {"label": "high", "score": 2.0}

    def test_other_parameters_reach_kwargs(self) -> None:
        assert self.post("anything", {"first": 1, "second": 2}).json() == {"first": 1, "second": 2}

    def test_a_context_is_filled_in(self) -> None:
        assert self.post("with_context", {"loss": 0.5}).body == b"with_context"
        assert self.post("with_context", {"loss": 0.5, "ctx": 1}).status == 400

    def test_a_generator_streams(self) -> None:
        reply = self.post("streamed", {"n": 3})

        assert reply.content_type == "application/x-ndjson"
        assert [json.loads(line) for line in reply.body.splitlines()] == [{"number": 0}, {"number": 1}, {"number": 2}]
        assert self.post("streamed", {"n": 0}).body == b""
        assert self.post("streamed_later", {"n": 2}).body == b"0\n1\n"

    @pytest.mark.parametrize(
        ("function", "body"), [("failing", {}), ("failing", {"how": "exit"}), ("classic_failing", {}), ("unfit", {})]
    )
    def test_a_failure_tells_a_client_nothing(self, function: str, body: Any) -> None:
        reply = self.post(function, body)

        assert (reply.status, reply.content_type) == (500, "application/json")
        assert reply.json()["error"].startswith(f"{function} failed.")
        assert reply.json()["request"]
        assert b"secret" not in reply.body and b"Traceback" not in reply.body and b".py" not in reply.body
        assert self.post("text", {"name": "you"}).status == 200

    # -- a handler(context, event)
    def test_an_event_is_nuclios_own(self) -> None:
        reply = self.serve("classic")("PUT", "/a/b?x=1&y=&x=2", body=b'{"k": 1}', headers={**JSON, "X-Colour": "red"})

        assert reply.status == 201
        assert reply.headers["x-made-by"] == "classic"
        assert "x-nuclio-filestream-path" not in reply.headers
        assert reply.json() == {
            "body": {"k": 1},
            "type": "application/json",
            "method": "PUT",
            "path": "/a/b",
            "fields": {"x": "2", "y": ""},
            "header": "red",
            "trigger": "http",
            "begun": 1,
            "size": 8,
        }

    @pytest.mark.parametrize(
        ("content_type", "sent", "body"),
        [
            ("application/json; charset=utf-8", b'{"k": 1}', '{"k": 1}'),
            ("application/json", b"{", "{"),
            ("application/json", b"[1]", [1]),
            ("text/plain", b"x", "x"),
        ],
    )
    def test_a_body_is_parsed_as_nuclio_does(self, content_type: str, sent: bytes, body: Any) -> None:
        assert self.serve("classic")("POST", body=sent, headers={"Content-Type": content_type}).json()["body"] == body

    @pytest.mark.parametrize(
        ("what", "status", "content_type", "body"),
        [
            ("str", 200, "text/plain", b"text"),
            ("bytes", 200, "text/plain", b"\x00\xff"),
            ("dict", 200, "application/json", b'{"a": "NaN"}'),
            ("list", 200, "application/json", b'[{"a": 1}, {"b": 2}]'),
            ("empty", 200, "application/json", b"[]"),
            ("int", 200, "text/plain", b"7"),
            ("none", 200, "text/plain", b"None"),
            ("status", 404, "text/plain", b"not here"),
            ("status_dict", 202, "application/json", b'{"a": 1}'),
            ("response_list", 200, "application/json", b'["a"]'),
        ],
    )
    def test_returned_values_are_answers(self, what: str, status: int, content_type: str, body: bytes) -> None:
        reply = self.get("classic_value", what=what)

        assert (reply.status, reply.content_type, reply.body) == (status, content_type, body)

    def test_no_content_has_no_body(self) -> None:
        reply = self.get("classic_value", what="no_content")

        assert (reply.status, reply.body) == (204, b"")

    def test_an_asynchronous_handler_is_awaited(self) -> None:
        assert self.post("classic_later", {"a": 1}).json() == {"body": {"a": 1}}

    def test_each_event_has_an_id(self) -> None:
        call = self.serve("classic_ids")

        assert len({call("POST").body for _ in range(5)}) == 5


class TableCases(HandlerContract):
    """Tables in and out; these need pandas and pyarrow."""

    def test_a_table_comes_as_json_records(self) -> None:
        reply = self.post("table", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])

        assert reply.json() == [{"a": 2, "b": "x"}, {"a": 4, "b": "y"}]
        assert self.post("table", {"frame": {"a": [3], "b": ["z"]}}).json() == [{"a": 6, "b": "z"}]

    @pytest.mark.parametrize("body", ["/etc/passwd", 7, {"frame": "/etc/passwd"}])
    def test_a_path_is_no_table(self, body: Any) -> None:
        reply = self.post("table", body)

        assert (reply.status, reply.json()["field"]) == (400, "frame")

    @pytest.mark.parametrize(
        "kind", ["application/vnd.apache.parquet", "application/vnd.apache.arrow.stream", "text/csv"]
    )
    def test_a_table_comes_as_it_is_accepted(self, kind: str) -> None:
        import pandas as pd

        reply = self.post("table", [{"a": 1, "b": "x"}], Accept=kind)
        assert reply.content_type == kind

        again = self.serve("table")("POST", body=reply.body, headers={"Content-Type": kind, "Accept": "text/csv"})
        assert pd.read_csv(io.BytesIO(again.body)).to_dict("records") == [{"a": 4, "b": "x"}]

    def test_a_damaged_table_is_refused(self) -> None:
        reply = self.serve("table")("POST", body=b"PAR1", headers={"Content-Type": "application/vnd.apache.parquet"})

        assert (reply.status, "no parquet" in reply.json()["error"]) == (400, True)
