"""The key file: encrypted, whole after any interruption, silent about secrets."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from meshos.crypto.keys import SigningKey
from meshos.crypto.keystore import TEST_COST, Cost, FileKeyStore, KeyStore, Passphrase
from meshos.crypto.limits import KEYSTORE_BYTES, KEYSTORE_KEYS
from meshos.crypto.signing import Domain, verify
from meshos.errors import BadInput, Failed, MeshError, Refused

DOMAIN = Domain(b"g" * 32, "/meshos/test/1")
WORD = Passphrase(b"correct horse")
ROOT = Path(__file__).resolve().parents[2]


def error_of(action: Callable[[], object]) -> MeshError:
    with pytest.raises(MeshError) as caught:
        action()
    return caught.value


def created(tmp_path: Path) -> FileKeyStore:
    return FileKeyStore.create(tmp_path / "keys" / "node.keys", WORD, ("node", "validator"), TEST_COST)


async def test_what_is_signed_before_and_after_opening_again(tmp_path: Path) -> None:
    first: KeyStore = created(tmp_path)
    again: KeyStore = FileKeyStore.open(tmp_path / "keys" / "node.keys", WORD)
    for name in ("node", "validator"):
        public = await first.public_key(name)
        assert await again.public_key(name) == public
        verify(public, DOMAIN, b"x", await again.sign(name, DOMAIN, b"x"))
        assert (await again.export(name)).public == public
    assert await first.public_key("node") != await first.public_key("validator")


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    store = created(tmp_path)
    store.add("third", SigningKey.generate())
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    assert os.listdir(store.path.parent) == ["node.keys"]


def test_a_file_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    store = created(tmp_path)
    store.path.chmod(0o640)
    error = error_of(lambda: FileKeyStore.open(store.path, WORD))
    assert (error.name, error.hint) == ("loose-permissions", f"chmod 600 {store.path}")


def test_a_folder_that_others_may_change_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys").chmod(0o777)
    assert error_of(lambda: created(tmp_path)).name == "loose-permissions"


def test_a_wrong_passphrase_is_told_from_a_damaged_file(tmp_path: Path) -> None:
    store = created(tmp_path)
    error = error_of(lambda: FileKeyStore.open(store.path, Passphrase(b"wrong")))
    assert isinstance(error, Refused) and error.name == "wrong-passphrase"
    whole = store.path.read_bytes()
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            store.path.write_bytes(damaged)
            error = error_of(lambda: FileKeyStore.open(store.path, WORD))
            assert error.name == "keys-corrupt" and str(store.path) in error.detail
    store.path.write_bytes(whole + b"\0")
    assert error_of(lambda: FileKeyStore.open(store.path, WORD)).name == "keys-corrupt"
    store.path.write_bytes(whole)
    assert FileKeyStore.open(store.path, WORD).names() == ("node", "validator")


def test_a_file_that_is_no_key_file_costs_little(tmp_path: Path) -> None:
    path = tmp_path / "node.keys"
    path.touch(0o600)
    for content in (b"", b"meshos-keys/1\n", b"meshos-keys/2\n", bytes(KEYSTORE_BYTES + 1)):
        path.write_bytes(content)
        assert error_of(lambda: FileKeyStore.open(path, WORD)).name == "keys-corrupt"
    assert error_of(lambda: FileKeyStore.open(tmp_path / "nothing", WORD)).name == "no-keys"
    assert error_of(lambda: FileKeyStore.open(tmp_path, WORD)).name == "no-keys"


def test_a_header_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        Cost(1, 2**40)
    with pytest.raises(ValueError):
        Cost(10_000, 8_192)


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    store = created(tmp_path)
    before = store.path.read_bytes()
    assert error_of(lambda: created(tmp_path)).name == "keys-exist"
    assert error_of(lambda: store.add("node", SigningKey.generate())).name == "keys-exist"
    assert store.path.read_bytes() == before


def test_of_many_that_create_at_once_one_does(tmp_path: Path) -> None:
    path, count = tmp_path / "keys" / "node.keys", 8
    together = threading.Barrier(count)
    ended: list[str] = []

    def create() -> None:
        together.wait()
        try:
            made = FileKeyStore.create(path, WORD, ("node",), Cost(4, 4 * 1024 * 1024))
            ended.append(repr(made._keys["node"]))
        except BadInput as error:
            ended.append(error.name)

    threads = [threading.Thread(target=create) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = set(ended) - {"keys-exist"}
    assert ended.count("keys-exist") == count - 1
    assert repr(FileKeyStore.open(path, WORD)._keys["node"]) == winner


@pytest.mark.parametrize("name", ["", "../up", "Node", "-", "a/b", "x" * 65, "a\n"])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    assert error_of(lambda: created(tmp_path).add(name, SigningKey.generate())).name == "bad-key-name"


def test_the_number_of_keys_is_bounded(tmp_path: Path) -> None:
    keys = {f"k{number}": SigningKey.generate() for number in range(KEYSTORE_KEYS)}
    store = FileKeyStore.store(tmp_path / "many.keys", WORD, keys, TEST_COST)
    assert error_of(lambda: store.add("one-more", SigningKey.generate())).name == "busy"
    assert FileKeyStore.open(store.path, WORD).names() == tuple(sorted(keys))


async def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    store = created(tmp_path)
    with pytest.raises(Refused) as caught:
        await store.sign("nobody", DOMAIN, b"")
    assert caught.value.name == "no-such-key"


def test_secrets_show_nowhere(tmp_path: Path) -> None:
    store = FileKeyStore.store(tmp_path / "node.keys", Passphrase(b"hushhush"), {"node": SigningKey(b"tellnobody123456" * 2)}, TEST_COST)
    error = error_of(lambda: FileKeyStore.open(store.path, Passphrase(b"guessguess")))
    seen = repr(store) + repr(Passphrase(b"hushhush")) + repr(error) + str(error) + repr(store._lock) + repr(store._keys)
    stored = store.path.read_bytes()
    for secret in (b"hushhush", b"guessguess", b"tellnobody123456"):
        assert secret.decode() not in seen and secret not in stored


def test_passphrases_come_from_a_file_or_the_environment(tmp_path: Path) -> None:
    store = created(tmp_path)
    word = tmp_path / "word"
    word.touch(0o600)
    word.write_bytes(b"correct horse\r\nsecond line\n")
    assert FileKeyStore.open(store.path, Passphrase.from_file(word)).names()
    assert FileKeyStore.open(store.path, Passphrase.from_environment("WORD", {"WORD": "correct horse"})).names()
    word.chmod(0o644)
    assert error_of(lambda: Passphrase.from_file(word)).name == "loose-permissions"
    word.chmod(0o600)
    for content in (b"", b"\nx", b"x" * 1_025):
        word.write_bytes(content)
        assert error_of(lambda: Passphrase.from_file(word)).name == "bad-passphrase"
    assert error_of(lambda: Passphrase.from_file(tmp_path / "nothing")).name == "bad-passphrase"
    assert error_of(lambda: Passphrase.from_environment("WORD", {})).name == "bad-passphrase"


PROGRAM = """
import sys, resource
from pathlib import Path
from meshos.crypto.keys import SigningKey
from meshos.crypto.keystore import FileKeyStore, Passphrase
from meshos.errors import Failed
store = FileKeyStore.open(Path(sys.argv[1]), Passphrase(b"correct horse"))
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
    try:
        store.add("third", SigningKey.generate())
    except Failed as error:
        print(error.name, *store.names())
    sys.exit()
for number in range(200):
    store.add(f"k{number}", SigningKey.generate())
    print(f"k{number}", flush=True)
"""


def run(path: Path, what: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), what], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("after", [1, 7, 20])
def test_a_kill_during_writes_loses_nothing_that_was_reported(tmp_path: Path, after: int) -> None:
    store = created(tmp_path)
    with run(store.path, "many") as process:
        assert process.stdout is not None
        reported = [process.stdout.readline().strip() for _ in range(after)]
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        reported += process.stdout.read().split()
    assert len(reported) >= after and reported[0] == "k0"
    assert set(FileKeyStore.open(store.path, WORD).names()) >= {"node", "validator", *reported}


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    """The kernel's limit on the size of a file stands for the disk that ends in the middle of a write."""
    store = created(tmp_path)
    before = store.path.read_bytes()
    with run(store.path, "full") as process:
        said, _ = process.communicate()
    assert said.split() == ["keys-not-written", "node", "validator"]
    assert store.path.read_bytes() == before
    assert os.listdir(store.path.parent) == ["node.keys"]


def test_errors_have_the_class_of_what_to_do() -> None:
    assert (BadInput.exit_code, Refused.exit_code, Failed.exit_code) == (2, 4, 1)
