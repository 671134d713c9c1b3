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


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskFailed, match="disk-failed"):
        LevelStore(tmp_path / "file" / "db")


_FAILING = """
import os, resource, sys
from meshos.effects import Put
from meshos.storage.level import LevelStore

machine = LevelStore(sys.argv[1] + "/db").prefixed("one")
acknowledged = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, 1 << 17))  # a write beyond fails with EFBIG, as a failing disk's does with EIO
write = lambda n: machine.write([Put(b"%04d" % n, os.urandom(1000))])
try:
    while True:
        write(acknowledged)
        acknowledged += 1
except OSError as error:
    print(acknowledged, error.name)
try:
    write(9999)
except OSError as error:
    print(error.name)
"""


def test_a_disk_that_fails(tmp_path: Path) -> None:
    """No root needed: a limit on file sizes makes the system refuse a write in the middle of the work."""
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", _FAILING, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True)
    (line, again_line) = ended.stdout.splitlines()
    acknowledged, name = line.split()
    assert name == again_line == "disk-failed", "closed after it"
    again = LevelStore(tmp_path / "db")
    kept = [key for key, _ in again.prefixed("one").scan(b"")]
    assert kept[: int(acknowledged)] == [b"%04d" % number for number in range(int(acknowledged))]
    assert int(acknowledged) > 50
    again.close()
