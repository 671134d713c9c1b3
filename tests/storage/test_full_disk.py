"""A full disk: a named refusal, the store closed after it, and everything acknowledged still there."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshos.effects import Put
from meshos.storage.disk import DiskFailed
from meshos.storage.level import LevelStore
from meshos.storage.log import Log


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_level_on_a_full_disk(small_disk: Path) -> None:
    store = LevelStore(small_disk / "db")
    machine, other = store.prefixed("one"), store.prefixed("two")
    other.write([Put(b"k", b"v")])
    acknowledged = 0
    with pytest.raises(DiskFailed) as caught:
        for number in range(1000):
            machine.write([Put(b"%04d" % number, os.urandom(200_000))])
            acknowledged += 1
    assert caught.value.name == "disk-full"
    assert isinstance(caught.value, OSError)
    assert 20 < acknowledged < 130
    for refused in (lambda: other.write([Put(b"k", b"w")]), lambda: other.get(b"k"), lambda: other.scan(b"")):
        with pytest.raises(DiskFailed, match="disk-full"):
            refused()
    store.close()
    subprocess.run(["mount", "-o", "remount,size=96m", str(small_disk)], check=True)
    again = LevelStore(small_disk / "db")
    kept = [key for key, _ in again.prefixed("one").scan(b"")]
    assert kept[:acknowledged] == [b"%04d" % number for number in range(acknowledged)]
    assert len(kept) <= acknowledged + 1
    assert again.prefixed("two").get(b"k") == b"v"
    again.close()


def test_log_on_a_full_disk(small_disk: Path) -> None:
    log = Log(small_disk / "log", segment_bytes=1 << 20)
    acknowledged = 0
    with pytest.raises(DiskFailed) as caught:
        while True:
            log.append([os.urandom(100_000)])
            acknowledged += 1
    assert caught.value.name == "disk-full"
    with pytest.raises(DiskFailed, match="disk-full"):
        log.append([b"x"])
    subprocess.run(["mount", "-o", "remount,size=48m", str(small_disk)], check=True)
    again = Log(small_disk / "log", segment_bytes=1 << 20)
    assert again.next == acknowledged
    assert sum(1 for _ in again.read(0)) == acknowledged
    assert again.append([b"more"]) == acknowledged
    again.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskFailed, match="disk-failed"):
        LevelStore(tmp_path / "file" / "db")
    with pytest.raises(DiskFailed, match="disk-failed"):
        Log(tmp_path / "file" / "log")


_FAILING = """
import os, resource, sys
from meshos.effects import Put
from meshos.storage.level import LevelStore
from meshos.storage.log import Log

store = LevelStore(sys.argv[1] + "/db")
machine = store.prefixed("one")
log = Log(sys.argv[1] + "/log", segment_bytes=1 << 16)
acknowledged = [0, 0]
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, 1 << 17))  # a write beyond fails with EFBIG, as a failing disk's does with EIO
to_store = lambda n: machine.write([Put(b"%04d" % n, os.urandom(1000))])
to_log = lambda n: log.append([os.urandom(1000 if n < 20 else 200_000)])
for place, write in enumerate((to_store, to_log)):
    try:
        while True:
            write(acknowledged[place])
            acknowledged[place] += 1
    except OSError as error:
        print(acknowledged[place], error.name)
    try:
        write(9999)
    except OSError as error:
        print(error.name)
"""


def test_a_disk_that_fails(tmp_path: Path) -> None:
    """No root needed: a limit on file sizes makes the system refuse a write in the middle of the work."""
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", _FAILING, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True)
    (store_line, store_again, log_line, log_again) = ended.stdout.splitlines()
    assert store_again == log_again == "disk-failed", "closed after it"
    acknowledged, name = store_line.split()
    assert name == "disk-failed"
    again = LevelStore(tmp_path / "db")
    kept = [key for key, _ in again.prefixed("one").scan(b"")]
    assert kept[: int(acknowledged)] == [b"%04d" % number for number in range(int(acknowledged))]
    assert int(acknowledged) > 50
    again.close()
    acknowledged, name = log_line.split()
    assert name == "disk-failed"
    log = Log(tmp_path / "log", segment_bytes=1 << 16)
    assert log.next == int(acknowledged) == 20
    log.close()
