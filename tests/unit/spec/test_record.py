from __future__ import annotations

from mlfn.spec.record import RemoteFailure


def test_a_failure_without_words_survives_the_store():
    bare = RemoteFailure("builtins.ValueError", "", bases=("builtins.ValueError",))

    assert RemoteFailure.from_json(bare.to_json()) == bare
