"""A kill at every single change that a command makes to a folder: what is there is whole, and the command run again finishes it.

The command's work runs in a process of its own, in which an audit hook (sys.addaudithook) counts what opens a file for writing, makes,
renames, removes or changes modes below the folder. At the n-th the process is killed: by SIGKILL before it, or, where it opens a
file, in the middle of writing it (SIGXFSZ, the kernel's signal for a file that grows beyond its limit). Then n grows until the
work comes to its end.
"""

import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from meshos import genesis as genesis_file
from meshos.crypto import invitations
from meshos.crypto.keystore import TEST_COST
from meshos.errors import BadInput
from meshos.genesis_reading import parse_org
from meshos.ids import org_did
from meshos.node import folder, opening
from meshos.node.api.keys import KeyRing
from meshos.node.cli.main import run
from meshos.node.cli.testnet import making as testnet_making
from meshos.node.cli.testnet import record
from meshos.node.config import Address, NodeConfig, load

CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate")
TORN_BYTES = 7
"""What is left of a file that was being written."""
NOW = time.time()


def kill_at(at: int, below: Path, work: Callable[[], object]) -> bool:
    """Do ``work`` in a process that is killed at its ``at``-th change below the folder; whether it came so far."""
    child = os.fork()
    if child == 0:
        seen = 0

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event not in CHANGES or not isinstance(arguments[0], str | os.PathLike):
                return
            writes = isinstance(flags := arguments[-1], int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if (event == "open" and not writes) or not os.fspath(arguments[0]).startswith(str(below)):
                return
            seen += 1
            if seen == at and event == "open":
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_FSIZE, (TORN_BYTES, TORN_BYTES))
            elif seen == at:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            work()
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        if seen >= at:
            os.kill(os.getpid(), signal.SIGKILL)  # the file was opened, and nothing written
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL, -signal.SIGXFSZ), "the work failed by itself"
    return code != 0


def each_change(below: Path, prepare: Callable[[], None], work: Callable[[], object], *, least: int) -> Iterator[int]:
    """Kill ``work`` at its first change, its second …, each time from what ``prepare`` makes; ends when it came to its end."""
    at = 0
    killed = True
    while killed:
        at += 1
        prepare()
        killed = kill_at(at, below, work)
        yield at
    assert at > least, f"only {at - 1} changes were seen, so the hook does not see them all"


def config_of(place: Path, name: str = "acme-1") -> NodeConfig:
    loopback = [Address("127.0.0.1", port) for port in (8100, 8200, 8300)]
    return NodeConfig(place / name, name, org_did("enterprise", "acme"), *loopback)


def make_org(place: Path) -> object:
    """What ``mesh init`` does for a founder, with a passphrase that costs little."""
    try:
        return folder.make_org(config_of(place), now=NOW, cost=TEST_COST, root_cost=TEST_COST)
    except BadInput as error:
        assert error.name == "node-exists"  # then it was made, to the end
        return None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A founder's folder and a genesis of its organisation alone."""
    place = tmp_path_factory.mktemp("made")
    org = folder.make_org(config_of(place), now=NOW, cost=TEST_COST, root_cost=TEST_COST)
    content = genesis_file.new(
        folder.template(), mesh="one", time_ms=int(NOW * 1000), placement_seed=bytes(32), testnet=True, timing="fast", orgs=[org]
    )
    (place / "genesis.json").write_bytes(genesis_file.to_json(content))
    return place


def fresh(place: Path, source: Path) -> Callable[[], None]:
    """Puts a copy of ``source`` at ``place`` anew, its configuration naming the copy."""

    def prepare() -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place)

    return prepare


def test_keys_api_keys_and_configuration_of_a_new_node(tmp_path: Path, made: Path) -> None:
    place = tmp_path / "new"

    def prepare() -> None:
        shutil.rmtree(place, ignore_errors=True)

    for _ in each_change(place, prepare, lambda: make_org(place), least=12):
        config = config_of(place)
        secrets = (config.keys, config.dir / folder.ROOT_FILE, config.passphrase_file)
        before = {path.name: path.read_bytes() for path in secrets if path.exists()}
        make_org(place)
        loaded = load(config.dir)
        identity = folder.open_identity(loaded)
        told = parse_org((config.dir / folder.ORG_FILE).read_bytes())
        assert told.validator is not None and told.validator.node == identity.node_id
        folder.open_root(loaded)
        token = (config.dir / folder.API_KEY_FILE).read_text().strip()
        assert KeyRing.load(loaded.api_keys).find(token) is not None, "the key that is shown opens the API"
        for name, data in before.items():
            assert (config.dir / name).read_bytes() == data, "a key that was once on disk is never made anew"


def test_genesis_and_certificate_of_a_node(tmp_path: Path, made: Path) -> None:
    place = tmp_path / "new"

    def finish() -> None:
        assert run(["init", "--dir", str(place / "acme-1"), "--genesis", str(place / "genesis.json")]) == 0

    for _ in each_change(place, fresh(place, made), finish, least=4):
        finish()
        opened = trio.run(opening.open_folder, load(place / "acme-1"))
        assert opened.me.org == org_did("enterprise", "acme")


def test_the_list_of_spent_invitations(tmp_path: Path, made: Path) -> None:
    """An invitation is good for one node whenever the answer to it is cut short."""
    place = tmp_path / "new"
    source = tmp_path / "source"
    shutil.copytree(made, source)
    assert run(["init", "--dir", str(source / "acme-1"), "--genesis", str(source / "genesis.json")]) == 0
    content = folder.read_genesis(source / "genesis.json")
    root = folder.open_root(load(source / "acme-1"))
    token = invitations.invite(root, genesis_hash=content.hash, org=config_of(place).org, now=NOW, lifetime_s=3600, addresses=())
    requests = []
    for name in ("acme-2", "acme-3"):
        identity = folder.make_joining(config_of(source, name))
        requests.append(invitations.request(token, identity.node, now=NOW))

    def issue(request: str) -> int:
        return run(["org", "issue", request, "--dir", str(place / "acme-1")])

    for _ in each_change(place, fresh(place, source), lambda: issue(requests[0]), least=2):
        assert issue(requests[0]) == 0, "the same node may ask again"
        assert issue(requests[1]) == 4, "another may not"


def test_the_api_keys_of_a_node(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "api-keys.json"
    ring = KeyRing()
    first = ring.mint("first", "admin")
    ring_after = KeyRing()
    ring_after.take_in(first, "first", "admin")
    second = ring_after.mint("second", "admin")

    def prepare() -> None:
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        ring.save(path)

    killed = []
    for _ in each_change(path.parent, prepare, lambda: ring_after.save(path), least=2):
        found = KeyRing.load(path)
        assert found.find(first) is not None
        killed.append(found.find(second) is None)
    assert killed == [True] * (len(killed) - 1) + [False], "until it is renamed the old file is there, then the new one"


def test_a_new_testnet(tmp_path: Path) -> None:
    place, final = tmp_path / "place", tmp_path / "place" / "net"

    def prepare() -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()

    def make() -> record.Testnet:
        return testnet_making.make(final, orgs=1, base_port=20_000, timing="fast")

    for _ in each_change(place, prepare, make, least=20):
        testnet = record.load(final) if testnet_making.exists(final) else make()
        assert testnet == record.load(final)
        opened = trio.run(opening.open_folder, load(Path(testnet.nodes[0].dir)))
        assert opened.me.node == testnet.nodes[0].node_id


def test_the_record_of_a_testnet(tmp_path: Path) -> None:
    place = tmp_path / "net"
    testnet = testnet_making.make(tmp_path / "source", orgs=1, base_port=20_000, timing="fast")
    after = testnet.with_pid("alpha-1", 4711)

    def prepare() -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(tmp_path / "source", place)

    def change() -> None:
        with record.changing(place):
            record.save(after, place)

    pids = []
    for _ in each_change(place, prepare, change, least=2):
        pids.append(record.load(place).nodes[0].pid)
        change()  # the lock died with its holder
    assert pids == [None] * (len(pids) - 1) + [4711]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"spent": [3]}',
        '{"spent": [{"nonce": "00", "node": "n", "forget_after": Infinity}]}',
        pytest.param("[" * 200_000, id="deep"),
    ],
)
def test_a_damaged_list_of_spent_invitations_is_named(tmp_path: Path, text: str) -> None:
    config = config_of(tmp_path)
    config.dir.mkdir()
    (config.dir / folder.SPENT_FILE).write_text(text)
    with pytest.raises(BadInput) as caught:
        folder.spent(config, NOW)
    assert caught.value.name == "cannot-read"
