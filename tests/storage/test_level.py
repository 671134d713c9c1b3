"""The Store port on LevelDB: prefixes, batches, snapshots, and what is refused at opening."""

import subprocess
import sys
from pathlib import Path

import pytest

from meshos.effects import Delete, Put
from meshos.errors import Broken, Failed, MeshError, Refused
from meshos.storage.level import LevelStore
from meshos.storage.limits import MAX_KEY_BYTES, SCHEMA

ROOT = Path(__file__).parents[2]


def test_machines_do_not_see_each_other(tmp_path: Path) -> None:
    store = LevelStore(tmp_path)
    one, two = store.prefixed("one"), store.prefixed("two")
    one.write([Put(b"b", b"1"), Put(b"a", b"0"), Put(b"c", b"2")])
    two.write([Put(b"a", b"other"), Delete(b"b")])
    one.write([Delete(b"c"), Put(b"b", b"9"), Delete(b"never")])
    assert list(one.scan(b"")) == [(b"a", b"0"), (b"b", b"9")]
    assert list(one.scan(b"b")) == [(b"b", b"9")]
    assert list(two.scan(b"")) == [(b"a", b"other")]
    assert one.get(b"c") is None
    store.close()
    store.close()
    again = LevelStore(tmp_path)
    assert again.prefixed("one").get(b"b") == b"9"
    again.close()


def test_snapshot_and_scan_stand_still(tmp_path: Path) -> None:
    store = LevelStore(tmp_path)
    one = store.prefixed("one")
    one.write([Put(b"a", b"0"), Put(b"b", b"1")])
    snapshot, scan = one.snapshot(), one.scan(b"")
    one.write([Put(b"a", b"new"), Delete(b"b"), Put(b"c", b"2")])
    assert list(scan) == [(b"a", b"0"), (b"b", b"1")]
    assert list(snapshot.scan(b"")) == [(b"a", b"0"), (b"b", b"1")]
    assert snapshot.get(b"a") == b"0"
    assert snapshot.get(b"c") is None
    snapshot.close()
    store.close()


def test_second_open_is_refused(tmp_path: Path) -> None:
    store = LevelStore(tmp_path)
    with pytest.raises(Refused, match="folder-in-use"):
        LevelStore(tmp_path)
    code = f"from meshos.storage.level import LevelStore; LevelStore({str(tmp_path)!r})"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "folder-in-use" in ended.stderr
    store.prefixed("one").write([Put(b"k", b"the first goes on")])
    store.close()
    LevelStore(tmp_path).close()


def test_schema(tmp_path: Path) -> None:
    LevelStore(tmp_path, schema=SCHEMA + 1).close()
    with pytest.raises(Refused, match="schema-too-new"):
        LevelStore(tmp_path)
    LevelStore(tmp_path, schema=SCHEMA + 1).close()  # the refusal left it alone, and let go of the folder
    with pytest.raises(Refused, match="schema-too-old"):
        LevelStore(tmp_path, schema=SCHEMA + 2)
    LevelStore(tmp_path, schema=SCHEMA + 1).close()


def test_database_of_another_program(tmp_path: Path) -> None:
    import plyvel

    other = plyvel.DB(str(tmp_path), create_if_missing=True)
    other.put(b"somebody", b"else")
    other.close()
    with pytest.raises(Refused, match="not-a-store"):
        LevelStore(tmp_path)


def _closed_store(folder: Path, batches: int) -> Path:
    """Its LevelDB log file."""
    store = LevelStore(folder)
    one = store.prefixed("one")
    for number in range(batches):
        one.write([Put(b"%03d" % number, b"value %03d" % number)])
    store.close()
    (log,) = folder.glob("*.log")
    return log


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    log = _closed_store(tmp_path, 50)
    data = bytearray(log.read_bytes())
    data[data.index(b"value 020")] ^= 1
    log.write_bytes(data)
    with pytest.raises(Failed, match="store-corrupt"):
        LevelStore(tmp_path)


def test_torn_tail_is_cut_off(tmp_path: Path) -> None:
    log = _closed_store(tmp_path, 50)
    log.write_bytes(log.read_bytes()[:-3])
    store = LevelStore(tmp_path)
    assert [value for _, value in store.prefixed("one").scan(b"")] == [b"value %03d" % number for number in range(49)]
    store.close()


def test_a_batch_beyond_the_limits_changes_nothing(tmp_path: Path) -> None:
    store = LevelStore(tmp_path)
    one = store.prefixed("one")
    with pytest.raises(Broken, match="store-limit"):
        one.write([Put(b"a", b""), Put(b"k" * (MAX_KEY_BYTES + 1), b"")])
    assert list(one.scan(b"")) == []
    one.write([Put(b"a", b"goes on")])
    store.close()


@pytest.mark.parametrize("name", ["", "A", "a/b", "a" * 33, "ü"])
def test_names_that_would_mix_key_spaces(tmp_path: Path, name: str) -> None:
    store = LevelStore(tmp_path)
    with pytest.raises(ValueError, match="no name of a machine"):
        store.prefixed(name)
    store.close()


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    store = LevelStore(tmp_path)
    with pytest.raises(MeshError) as caught:
        LevelStore(tmp_path)
    assert caught.value.hint
    store.close()
