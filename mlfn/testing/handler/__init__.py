"""The contract of handlers: events in, answers out, whoever calls them: the mock, the embedded server, Nuclio's processor."""

from mlfn.testing.handler.cases import HandlerContract as HandlerContract
from mlfn.testing.handler.client import Reply as Reply
