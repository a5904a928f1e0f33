from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import resource
import shutil
import signal
import stat
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlfn.artifacts import content
from mlfn.artifacts.formats.base import Packed
from mlfn.artifacts.home import home_of
from mlfn.artifacts.store import Artifact, ArtifactStore, is_at_home, run_of
from mlfn.errors import (
    MissingExtraError,
    NotFoundError,
    OutputError,
    SettingsError,
    StorageError,
    StoreCorruptError,
)


def packed(content: bytes | Path, suffix: str = ".bin") -> Packed:
    return Packed("bytes", "builtins.bytes", content=content, suffix=suffix)


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "new" / "artifacts"


@pytest.fixture(params=["folder", "file-url", "memory"])
def store(request: pytest.FixtureRequest, root: Path) -> ArtifactStore:
    """Every kind of root; fsspec's memory stands for the object stores, which need an account."""
    base = f"memory://bucket-{uuid.uuid4().hex}/artifacts"
    return ArtifactStore({"folder": root, "file-url": root.as_uri(), "memory": base}[request.param])


@pytest.fixture
def here(root: Path) -> ArtifactStore:
    return ArtifactStore(root)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoint"
    (made / "empty").mkdir(parents=True)
    (made / "inner").mkdir()
    (made / "inner" / "weights.bin").write_bytes(b"w" * 10)
    (made / "config.json").write_bytes(b"{}")
    (made / "latest").symlink_to("inner/weights.bin")
    return made


SHA = hashlib.sha256(b"content").hexdigest()


def test_content_lies_under_its_run_key_and_hash(store: ArtifactStore) -> None:
    artifact = store.put("run-1", "model", packed(b"content"))

    assert (artifact.key, artifact.sha256, artifact.size) == ("model", SHA, 7)
    assert artifact.path == f"run-1/model/{SHA}.bin"
    assert artifact.uri.endswith(f"artifacts/run-1/model/{SHA}.bin")
    assert (artifact.packer, artifact.type) == ("bytes", "builtins.bytes")
    assert store.path(artifact).read_bytes() == b"content"


def test_a_file_is_copied_and_the_original_left_alone(store: ArtifactStore, tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"content")
    before = source.stat()

    artifact = store.put("run", "model", packed(source))

    assert artifact.sha256 == SHA
    assert store.path(artifact).read_bytes() == source.read_bytes() == b"content"
    assert source.stat().st_mtime_ns == before.st_mtime_ns


def test_a_folder_is_copied_whole_and_the_original_left_alone(store: ArtifactStore, folder: Path) -> None:
    artifact = store.put("run", "checkpoint", packed(folder, ""))

    copy = store.path(artifact)
    assert files(copy) == ["config.json", "inner/weights.bin", "latest"]
    assert (copy / "empty").is_dir()
    assert not (copy / "latest").is_symlink()
    assert (copy / "latest").read_bytes() == b"w" * 10
    assert (folder / "latest").is_symlink()
    assert artifact.size == 22


def test_a_folder_has_one_hash_wherever_it_is_put(root: Path, folder: Path) -> None:
    hashes = {
        ArtifactStore(where).put("run", "out", packed(folder, "")).sha256
        for where in (root, f"memory://bucket-{uuid.uuid4().hex}")
    }

    assert len(hashes) == 1
    (folder / "empty").rename(folder / "other")
    assert ArtifactStore(root).put("run", "out", packed(folder, "")).sha256 not in hashes


def test_an_inline_value_becomes_a_json_file(store: ArtifactStore) -> None:
    artifact = store.put("run", "params", Packed("json", "builtins.dict", inline={"depth": 3}))

    assert store.path(artifact).read_bytes() == b'{"depth":3}'
    assert artifact.path.endswith(".json")


def test_the_same_content_put_twice_is_one_file(store: ArtifactStore, folder: Path) -> None:
    assert store.put("run", "out", packed(b"content")) == store.put("run", "out", packed(b"content"))
    assert store.put("run", "tree", packed(folder, "")) == store.put("run", "tree", packed(folder, ""))


def test_the_same_content_put_twice_leaves_one_file_on_disk(here: ArtifactStore, root: Path) -> None:
    here.put("run", "out", packed(b"content"))
    here.put("run", "out", packed(b"content"))

    assert files(root) == [f"run/out/{SHA}.bin"]


def linked(store: ArtifactStore, *runs: str, content: bytes = b"same") -> list[Path]:
    return [store.path(store.put(run, "param-rows", packed(content), shared=True)) for run in runs]


def test_what_several_runs_are_given_is_one_file(here: ArtifactStore) -> None:
    paths = linked(here, "a", "b", "c", "d")

    assert len({path.parent for path in paths}) == 4
    assert {(path.stat().st_nlink, path.read_bytes(), mode(path)) for path in paths} == {(4, b"same", 0o600)}
    assert linked(here, "e", content=b"other")[0].stat().st_nlink == 1


def test_an_output_is_never_a_link_to_what_a_run_was_given(here: ArtifactStore) -> None:
    linked(here, "a")

    assert here.path(here.put("b", "out", packed(b"same"))).stat().st_nlink == 1


@pytest.mark.parametrize("change", ["written", "truncated", "removed"])
def test_a_changed_file_is_not_linked_to_again(change: str, here: ArtifactStore) -> None:
    [first] = linked(here, "a")
    if change == "removed":
        first.unlink()
    else:
        first.write_bytes(b"diff" if change == "written" else b"")
        os.utime(first, ns=(0, 0))

    second, third = linked(here, "b", "c")

    assert (second.read_bytes(), third.read_bytes(), third.stat().st_nlink) == (b"same", b"same", 2)


def test_a_disk_without_links_has_copies(here: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)

    assert [path.stat().st_nlink for path in linked(here, "a", "b")] == [1, 1]


def test_two_runs_and_two_contents_never_overwrite_each_other(store: ArtifactStore) -> None:
    made = [store.put(run, "out", packed(content)) for run in ("a", "b") for content in (b"1", b"2")]

    assert len({artifact.path for artifact in made}) == 4
    assert [store.path(artifact).read_bytes() for artifact in made] == [b"1", b"2", b"1", b"2"]


def test_many_threads_putting_the_same_end_with_one_whole_copy(here: ArtifactStore, root: Path, folder: Path) -> None:
    made: list[Artifact] = []

    def put() -> None:
        made.append(here.put("run", "file", packed(b"x" * 100_000)))
        made.append(here.put("run", "tree", packed(folder, "")))

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 16
    assert len(set(made)) == 2
    assert not [name for name in files(root) if ".tmp" in name]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777], ids=oct)
def test_files_are_0600_and_folders_0700_whatever_the_umask(
    umask: int, here: ArtifactStore, root: Path, folder: Path
) -> None:
    (folder / "config.json").chmod(0o777)
    old = os.umask(umask)
    try:
        here.put("run", "file", packed(b"content"))
        here.put("run", "tree", packed(folder, ""))
    finally:
        os.umask(old)

    made = [root, *root.rglob("*")]
    assert {mode(path) for path in made if path.is_dir()} == {0o700}
    assert {mode(path) for path in made if path.is_file()} == {0o600}


BAD_NAMES = [
    "",
    ".",
    "..",
    ".hidden",
    "a/b",
    "../a",
    "/a",
    "a\\b",
    "a b",
    "a\n",
    "é é",
    "a\0",
    "x" * 129,
    "a:b",
    "~",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_a_key_or_run_id_that_is_no_name_is_refused(name: str, here: ArtifactStore, root: Path) -> None:
    with pytest.raises(OutputError, match=r"is no artifact key. Allowed: letters and digits of any script"):
        here.put("run", name, packed(b""))
    with pytest.raises(OutputError, match="is no run id"):
        here.put(name, "key", packed(b""))

    assert not root.exists()


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "x" * 128, "-", "_"])
def test_a_key_of_allowed_letters_is_taken(name: str, here: ArtifactStore) -> None:
    assert here.path(here.put("run", name, packed(b"content"))).read_bytes() == b"content"


@pytest.mark.parametrize("suffix", ["bin", "../x", "./", ".a/b", ".\0", ".a.b.c"])
def test_a_suffix_that_is_none_is_refused(suffix: str, here: ArtifactStore) -> None:
    with pytest.raises(OutputError, match="is no suffix"):
        here.put("run", "key", packed(b"", suffix))


@pytest.mark.parametrize(
    "path",
    [
        f"../{SHA}",
        f"run/../{SHA}",
        f"run/key/../{SHA}",
        "run/key/passwd",
        f"/run/key/{SHA}",
        f"run/key/{SHA}/x",
        "",
    ],
)
def test_an_artifact_whose_path_was_tampered_with_is_refused(path: str, store: ArtifactStore) -> None:
    artifact = dataclasses.replace(store.put("run", "key", packed(b"content")), path=path)

    with pytest.raises((StoreCorruptError, OutputError)):
        store.path(artifact)


def test_a_link_planted_in_the_store_leads_nowhere(here: ArtifactStore, root: Path, tmp_path: Path) -> None:
    artifact = here.put("run", "key", packed(b"content"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / Path(artifact.path).name).write_bytes(b"secret")
    (root / "other").symlink_to(outside)
    here.path(artifact).unlink()
    (root / artifact.path).symlink_to(outside / Path(artifact.path).name)

    with pytest.raises(StorageError, match="leads out of the artifact root"):
        here.path(artifact)
    with pytest.raises(StorageError, match="leads out of the artifact root"):
        here.put("other", "key", packed(b"content"))
    assert files(outside) == [Path(artifact.path).name]


def test_putting_changed_content_again_restores_it(here: ArtifactStore) -> None:
    artifact = here.put("run", "key", packed(b"content"))
    here.path(artifact).write_bytes(b"changed")

    here.put("run", "key", packed(b"content"))

    assert here.path(artifact).read_bytes() == b"content"


@pytest.mark.parametrize("damage", ["change", "add", "remove", "link"])
def test_putting_a_changed_folder_again_restores_it(damage: str, here: ArtifactStore, folder: Path) -> None:
    artifact = here.put("run", "key", packed(folder, ""))
    copy = here.path(artifact)
    if damage == "change":
        (copy / "config.json").write_bytes(b"[]")
    elif damage == "add":
        (copy / "more").write_bytes(b"")
    elif damage == "remove":
        (copy / "config.json").unlink()
    else:
        (copy / "more").symlink_to("/etc/passwd")

    here.put("run", "key", packed(folder, ""))

    assert files(copy) == ["config.json", "inner/weights.bin", "latest"]
    assert (copy / "config.json").read_bytes() == b"{}"


def test_what_is_gone_says_so(store: ArtifactStore) -> None:
    artifact = dataclasses.replace(store.put("run", "key", packed(b"content")), path=f"gone/key/{SHA}")

    with pytest.raises(NotFoundError, match="There is no artifact at"):
        store.path(artifact)
    with pytest.raises(KeyError):
        store.path(artifact)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """A file of more than 64 KiB cannot be written: the nearest to a full disk that needs no mount."""
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, old_handler)


def test_a_write_that_fails_half_way_leaves_nothing(
    here: ArtifactStore, root: Path, folder: Path, full_disk: None
) -> None:
    (folder / "z").mkdir()
    for number in range(3):
        (folder / "z" / str(number)).write_bytes(b"x" * 60_000)

    with pytest.raises(StorageError, match=r"Cannot write 100,000 bytes to .*run/key: File too large"):
        here.put("run", "key", packed(b"x" * 100_000))

    assert files(root) == []
    assert here.put("run", "key", packed(folder, "")).size == 180_022


def test_a_folder_whose_copy_fails_half_way_leaves_nothing(
    here: ArtifactStore, root: Path, folder: Path, request: pytest.FixtureRequest
) -> None:
    (folder / "z").write_bytes(b"x" * 100_000)
    request.getfixturevalue("full_disk")

    with pytest.raises(StorageError, match="Cannot write 100,022 bytes"):
        here.put("run", "key", packed(folder, ""))

    assert [path.name for path in (root / "run" / "key").iterdir()] == []


def test_a_root_that_cannot_be_made_says_which(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StorageError, match=r"Cannot write 7 bytes to .*file/artifacts/run/key: Not a directory"):
        ArtifactStore(tmp_path / "file" / "artifacts").put("run", "key", packed(b"content"))


def test_a_source_that_is_gone_is_an_output_error_and_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"Cannot read .*gone"):
        store.put("run", "key", packed(tmp_path / "gone"))


def test_a_pipe_put_in_the_place_of_a_file_does_not_block(here: ArtifactStore, root: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OutputError, match="not a regular file"):
        here.put("run", "key", packed(tmp_path / "pipe"))

    assert files(root) == []


def test_a_large_file_is_copied_in_pieces(here: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(5 * 1024 * 1024 + 1)

    sizes = [len(block) for block in content.chunks(source)]

    assert max(sizes) == 1024 * 1024
    assert here.put("run", "key", packed(source)).size == 5 * 1024 * 1024 + 1


# --- roots that are URLs


def objects(store: ArtifactStore) -> dict[str, bytes]:
    import fsspec

    root: Any = store.root
    system = fsspec.filesystem("memory")
    found = system.find(root.base)
    return {name.removeprefix(root.base + "/"): system.cat_file(name) for name in found}


@pytest.fixture
def remote() -> ArtifactStore:
    return ArtifactStore(f"memory://bucket-{uuid.uuid4().hex}/base/")


def test_an_object_that_is_there_is_not_uploaded_again(remote: ArtifactStore, folder: Path) -> None:
    import fsspec

    artifact = remote.put("run", "key", packed(b"content"))
    name = f"{remote.root.base}/{artifact.path}"  # type: ignore[attr-defined]
    first = fsspec.filesystem("memory").modified(name)

    remote.put("run", "key", packed(b"content"))

    assert fsspec.filesystem("memory").modified(name) == first
    assert list(objects(remote)) == [artifact.path]


def test_another_store_on_the_same_url_reads_it_and_finds_a_change(remote: ArtifactStore, folder: Path) -> None:
    import fsspec

    file, tree = remote.put("run", "file", packed(b"content")), remote.put("run", "tree", packed(folder, ""))
    other = ArtifactStore(remote.root.url)  # type: ignore[attr-defined]
    assert other.path(file).read_bytes() == b"content"
    assert files(other.path(tree)) == ["config.json", "inner/weights.bin", "latest"]

    for name in (file.path, f"{tree.path}/config.json"):
        fsspec.filesystem("memory").pipe_file(f"{remote.root.base}/{name}", b"changed")  # type: ignore[attr-defined]

    for artifact in (file, tree):
        with pytest.raises(StoreCorruptError, match="is not what was put"):
            ArtifactStore(remote.root.url).path(artifact)  # type: ignore[attr-defined]


def test_an_index_that_leads_out_of_its_folder_is_refused(remote: ArtifactStore) -> None:
    import fsspec

    text = f'[["../../escape",7,"{SHA}"]]'.encode()
    sha256 = hashlib.sha256(text).hexdigest()
    fsspec.filesystem("memory").pipe_file(f"{remote.root.base}/run/key/{sha256}.tree", text)  # type: ignore[attr-defined]
    artifact = Artifact("key", sha256, 7, "", f"run/key/{sha256}", "path", "pathlib.PosixPath")

    with pytest.raises(StoreCorruptError, match="unsafe path"):
        remote.path(artifact)


def test_an_upload_that_fails_half_way_leaves_nothing(remote: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # A failing network cannot be had in memory: the copy itself fails after its first block.
    def broken(source: Any, write: Any) -> Any:
        write(b"cont")
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(content, "copy", broken)
    monkeypatch.setattr(content, "sum_up", lambda _: content.Summed(SHA, 7))

    with pytest.raises(StorageError, match=r"Cannot write 7 bytes to memory://.*reset by peer"):
        remote.put("run", "key", packed(b"content"))

    assert objects(remote) == {}


def test_a_source_that_changes_while_it_is_uploaded_leaves_nothing(
    remote: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "sum_up", lambda _: content.Summed(SHA, 7))

    with pytest.raises(OutputError, match="changed while it was copied"):
        remote.put("run", "key", packed(b"other"))

    assert objects(remote) == {}


@pytest.mark.parametrize("url", ["ftp://host/x", "http://host/x", "simplecache::s3://x", "S4://x", "reference://x"])
def test_an_unknown_scheme_names_those_known(url: str) -> None:
    with pytest.raises(SettingsError, match=r"Allowed: abfs, .* s3, .* or a path"):
        _ = ArtifactStore(url).root


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match="pip install gcsfs"):
        _ = ArtifactStore("gs://bucket/x").root

    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ImportError, match="pip install fsspec"):
        _ = ArtifactStore("memory://bucket/x").root


# --- roots that are chosen, and shared

HOME = "of-0123456789abcdef"


@pytest.fixture(params=["folder", "memory"])
def chosen(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    base = f"memory://bucket-{uuid.uuid4().hex}/shelf"
    root = {"folder": tmp_path / "shelf", "memory": base}[request.param]
    return ArtifactStore(root, home=HOME, former=tmp_path / "data")


def test_a_path_at_a_chosen_root_begins_with_its_home(chosen: ArtifactStore) -> None:
    artifact = chosen.put("run", "key", packed(b"content"))

    assert artifact.path == f"{HOME}/run/key/{SHA}.bin"
    assert (run_of(artifact.path), is_at_home(artifact.path)) == ("run", True)
    assert chosen.path(artifact).read_bytes() == b"content"


def test_any_home_is_read(chosen: ArtifactStore) -> None:
    other = ArtifactStore(chosen.location["root"] or "", home="of-fedcba9876543210")

    assert chosen.path(other.put("run", "key", packed(b"content"))).read_bytes() == b"content"


def test_what_has_no_home_is_read_where_it_was_put(chosen: ArtifactStore, tmp_path: Path) -> None:
    before = ArtifactStore(tmp_path / "data").put("run", "key", packed(b"content"))
    copied = ArtifactStore(chosen.location["root"] or "").put("other", "key", packed(b"content"))

    assert (run_of(before.path), is_at_home(before.path)) == ("run", False)
    assert chosen.path(before).read_bytes() == chosen.path(copied).read_bytes() == b"content"


def test_a_root_says_how_large_its_files_are(chosen: ArtifactStore, folder: Path) -> None:
    put = [chosen.put("a", "model", packed(b"content")), chosen.put("b", "tree", packed(folder, ""))]

    assert sum(size for _, size in chosen.files()) >= sum(artifact.size for artifact in put) > 0


def test_a_root_lists_and_removes_its_own_runs(chosen: ArtifactStore, folder: Path) -> None:
    other = ArtifactStore(chosen.location["root"] or "", home="of-fedcba9876543210")
    kept = other.put("kept", "key", packed(b"content"))
    for run in ("one", "two"):
        chosen.put(run, "file", packed(b"content"))
        chosen.put(run, "tree", packed(folder, ""))
    chosen.check()

    assert [found.run for found in chosen.runs()] == ["one", "two"]
    assert all(found.size >= 29 and found.written and abs(found.written - time.time()) < 60 for found in chosen.runs())
    chosen.remove("one")
    chosen.remove("none")

    assert [found.run for found in chosen.runs()] == ["two"]
    assert other.path(kept).read_bytes() == b"content"


def test_a_store_without_home_lists_nothing(here: ArtifactStore) -> None:
    here.put("run", "key", packed(b"content"))

    assert list(here.runs()) == []


def test_a_home_stays_the_same(tmp_path: Path) -> None:
    assert home_of(tmp_path) == home_of(tmp_path)
    assert re.fullmatch(r"of-[0-9a-f]{16}", home_of(tmp_path))


def test_a_copied_data_folder_gets_another_home(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    first = home_of(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")

    assert home_of(tmp_path / "copy") != first
    assert home_of(tmp_path / "data") == first
