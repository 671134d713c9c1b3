"""``mesh testnet up|serve|status|kill|stop|start|pause|resume|partition|heal|down``."""

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Never

import typer

from meshos.errors import BadInput, MeshError
from meshos.node.cli.client_text import plural
from meshos.node.cli.output import JsonFlag, document, note, ok, progress, table, warn
from meshos.node.cli.testnet import record
from meshos.node.terminal import end_as_after_ctrl_c

if TYPE_CHECKING:
    from meshos.node.cli.testnet.starting import Started

BASE_PORT = 8100
DEFAULT_ORGS = 4
DEFAULT_TIMING = "local"
LOOPBACK = "127.0.0.1"
READY_S = 60.0
MAX_ORGS = 24


def _names(context: typer.Context, incomplete: str) -> list[str]:
    """Nodes and organisations that a shell may complete to; nothing where there is no testnet."""
    try:
        nodes = record.load(folder_of(context, context.params.get("directory"))).nodes
    except MeshError:
        return []
    return sorted(name for name in {name for node in nodes for name in (node.name, node.org)} if name.startswith(incomplete))


NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="A node's name, or an organisation's for all of its nodes.", autocompletion=_names)
]
Dir = Annotated[Path | None, typer.Option("--dir", help="The testnet's folder; ./testnet if not given.")]

app = typer.Typer(help="A whole mesh on this machine, one process a node, and chaos by hand.", no_args_is_help=True, rich_markup_mode=None)


def register(root: typer.Typer) -> None:
    """Add ``mesh testnet``."""
    root.add_typer(app, name="testnet")


@app.callback()
def _testnet(context: typer.Context, directory: Dir = None) -> None:
    context.obj = directory


def folder_of(context: typer.Context, given: Path | None) -> Path:
    """``--dir`` of the command or of ``mesh testnet``; else the folder that lies here; else the one that we stand in."""
    chosen = given or context.obj
    if isinstance(chosen, Path):
        return chosen
    from meshos.node.cli.client_connection import testnet_here

    return testnet_here()


@app.command(epilog="Example: mesh testnet up --detach")
def up(
    context: typer.Context,
    orgs: Annotated[int | None, typer.Option(min=1, max=MAX_ORGS, help="Organisations; 4 if not given.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, max=5, help="Nodes of each organisation: 1, 3 or 5; 1 if not given.")] = None,
    directory: Dir = None,
    base_port: Annotated[
        int | None,
        typer.Option(
            min=1024, max=60_000, help=f"API ports follow it, {BASE_PORT} if not given; gossip at +100, links at +200, the square at +300."
        ),
    ] = None,
    timing: Annotated[str | None, typer.Option(help="How fast the dead are noticed: local, fast, lan or wan; local if not given.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready and leave it running.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to become ready in.")] = READY_S,
    as_json: JsonFlag = False,
) -> None:
    """Bring a whole mesh up on this machine; one that was taken down goes on with its data.

    Where all nodes run already it says so and is done, also without --detach. Exit code 1 if it runs and not all nodes see each other in time.
    """
    from meshos.genesis import TIMINGS
    from meshos.node.cli.testnet import making, starting

    size = making.Size(orgs or DEFAULT_ORGS, replicas or 1)
    if size.replicas not in starting.SIZES:
        raise BadInput(
            "usage", f"{size.replicas} nodes of an organisation can lose no more than one less", hint="give --replicas 1, 3 or 5"
        )
    if size.nodes > making.MAX_NODES:
        raise BadInput(
            "usage", f"{size.nodes} nodes, at most {making.MAX_NODES} run in one testnet", hint="give fewer --orgs or --replicas"
        )
    if timing is not None and timing not in TIMINGS:
        raise BadInput("usage", f"there is no timing called {timing!r}", hint=f"one of {', '.join(TIMINGS)}")
    target = folder_of(context, directory)
    end_as_after_ctrl_c()
    with progress() as shown:
        if not making.exists(target):
            making.check_new_ports(size, base_port or BASE_PORT)
            shown.at("making keys and the genesis")
            making.make(target, orgs=size.orgs, replicas=size.replicas, base_port=base_port or BASE_PORT, timing=timing or DEFAULT_TIMING)
        with record.changing(target) as testnet:
            _check_same(testnet, target, orgs, replicas, base_port, timing)
            started = starting.start(testnet, testnet.nodes, timeout, shown)
    if not as_json:
        _tell_where(started.testnet)
    if not detach and started.children:
        _stay(target, started, as_json)
    _show_up(started, as_json)
    if started.unacquainted:
        raise typer.Exit(1)


@app.command(epilog="Example: mesh testnet serve --host 192.0.2.7 --detach")
def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option(metavar="IP", help="The address of this machine that others reach; that of its way out if not given.")
    ] = None,
    directory: Dir = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready and leave it running.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to become ready in.")] = READY_S,
    as_json: JsonFlag = False,
) -> None:
    """Let others join this machine's testnet: its nodes take gossip, links and strangers on an address that others reach.

    Nodes that run on another address are restarted, with their data. The APIs stay on loopback. A testnet admits everybody who asks, so do
    this in a network that you know. `--host 127.0.0.1` takes it back.
    """
    from meshos.node.cli.own_address import check_own, read_ip, towards
    from meshos.node.cli.testnet import serving, starting

    target = folder_of(context, directory)
    end_as_after_ctrl_c()
    address = towards() if host is None else read_ip(host)
    if not serving.is_at(record.load(target), address):
        check_own(address)
        _down(target, quiet=True)
    with progress() as shown, record.changing(target) as testnet:
        if not serving.is_at(testnet, address):
            testnet = serving.move(testnet, address)
        started = starting.start(testnet, testnet.nodes, timeout, shown)
    if not as_json:
        note(f"Others join with: {serving.invitation(started.testnet)}")
    if not detach and started.children:
        _stay(target, started, as_json)
    _show_up(started, as_json)
    if started.unacquainted:
        raise typer.Exit(1)


def _check_same(
    testnet: record.Testnet, target: Path, orgs: int | None, replicas: int | None, base_port: int | None, timing: str | None
) -> None:
    """See that a testnet that is there is what was asked for; raises BadInput ``testnet-differs``."""
    there = len(testnet.orgs())
    if orgs is not None and orgs != there:
        told = f"the testnet in {target} has {there} organisations, not {orgs}"
        raise BadInput("testnet-differs", told, hint="leave --orgs away to resume it, or choose another folder with --dir")
    if replicas is not None and replicas * there != len(testnet.nodes):
        told = f"the testnet in {target} has {len(testnet.nodes) // there} nodes of each organisation, not {replicas}"
        raise BadInput("testnet-differs", told, hint="leave --replicas away to resume it, or choose another folder with --dir")
    if base_port is not None and base_port != testnet.base_port():
        told = f"the testnet in {target} has its ports from {testnet.base_port()} on, not from {base_port}"
        raise BadInput("testnet-differs", told, hint="leave --base-port away to resume it, or choose another folder with --dir")
    if timing is not None:
        from meshos.node.folder import read_genesis

        if timing != (had := read_genesis(Path(testnet.genesis)).timing):
            told = f"the testnet in {target} has the timing {had}, not {timing}"
            raise BadInput("testnet-differs", told, hint="leave --timing away to resume it, or choose another folder with --dir")


def _tell_where(testnet: record.Testnet) -> None:
    """What a `serve` of long ago has opened stays open: say so where it is brought up again."""
    host = testnet.nodes[0].link.rpartition(":")[0].strip("[]")
    if host != LOOPBACK:
        back = f"mesh testnet serve --host {LOOPBACK} --detach{record.elsewhere(testnet.dir)}"
        note(f"Others reach it at {host}, as `mesh testnet serve` left it; only this machine: {back}")


def _show_up(started: "Started", as_json: bool) -> None:
    testnet = started.testnet
    if as_json:
        extra = {"ready_ms": started.ready_ms, "took_ms": started.took_ms, "unacquainted": list(started.unacquainted)}
        extra |= {"incomplete": list(started.incomplete), "unregistered": list(started.unregistered)}
        document("testnet-up", {key: value for key, value in testnet.body().items() if key != "schema"} | extra)
        _warn(started)
        return
    rows = [
        (node.name, node.org, node.api, f"{started.ready_ms[node.name] / 1000:.1f} s" if node.name in started.ready_ms else "already")
        for node in testnet.nodes
    ]
    table(("NODE", "ORG", "API", "READY"), rows)
    count = len(testnet.nodes)
    _warn(started)
    if not started.children and not started.unacquainted:
        run = f"all {count} nodes run already" if count != 1 else "the node runs already"
        ok(f"{run}; end them with: mesh testnet down{record.elsewhere(testnet.dir)}")
    elif not started.unacquainted:
        ok(f"{count} of {count} nodes see each other, after {started.took_ms / 1000:.1f} s")
    note(f"Logs {testnet.dir}/*/node.log  Next mesh members{record.elsewhere(testnet.dir)}")


def _warn(started: "Started") -> None:
    if started.incomplete:
        warn(f"not all nodes of {', '.join(started.incomplete)} decide for it yet: mesh org nodes --org {started.incomplete[0]}")
    if started.unregistered:
        warn(f"{', '.join(started.unregistered)} cannot pay yet, the ledger does not know them: mesh testnet up tries it again")
    if started.unacquainted:
        org = started.testnet.node(started.unacquainted[0]).org
        warn(f"{', '.join(started.unacquainted)} not seeing all others yet: mesh members --org {org}")


def _stay(target: Path, started: "Started", as_json: bool) -> Never:
    """Show it, and stay until Ctrl-C, SIGTERM or SIGHUP, saying which nodes end meanwhile; then take the testnet down, whatever happened."""
    left = dict(started.children)
    try:
        _show_up(started, as_json)
        if not as_json:
            note("Ctrl-C takes it down and keeps its data")
        while True:
            for name in [name for name, child in left.items() if child.poll() is not None]:
                note(f"x {name} ended with {left.pop(name).returncode}")
            time.sleep(0.2)
    finally:
        _down(target, quiet=as_json)


@app.command(epilog="Example: mesh testnet status")
def status(context: typer.Context, directory: Dir = None, as_json: JsonFlag = False) -> None:
    """The nodes of the testnet, as their processes are, and who is cut off from whom."""
    from meshos.node.cli.testnet import processes

    testnet = record.load(folder_of(context, directory))
    states = {node.name: processes.state_told(node) for node in testnet.nodes}
    ready = {node.name: states[node.name] == "running" and processes.is_ready(node) for node in testnet.nodes}
    cut = {node.name: _cut_off(node) if ready[node.name] else [] for node in testnet.nodes}
    if as_json:
        keys = ("name", "org", "node_id", "api", "gossip", "link", "region")
        nodes = [
            {key: getattr(node, key) for key in keys}
            | {"state": states[node.name], "ready": ready[node.name], "pid": _pid(node, states), "cut": cut[node.name]}
            for node in testnet.nodes
        ]
        document("testnet-status", {"dir": str(testnet.dir), "nodes": nodes})
        return
    rows = [
        (node.name, node.org, states[node.name], "yes" if ready[node.name] else "no", _pid(node, states), node.api)
        for node in testnet.nodes
    ]
    table(("NODE", "ORG", "PROCESS", "READY", "PID", "API"), rows)
    for node in [node for node in testnet.nodes if states[node.name] == "ended"]:
        warn(f"{node.name} ended without being told to: its log is {node.dir}/{processes.LOG}")
    for name in [name for name, others in cut.items() if others]:
        warn(f"{name} is cut off from {', '.join(cut[name])}; mesh testnet heal mends it")
    following = "mesh members" if any(ready.values()) else "mesh testnet up --detach"
    ok(f"{sum(ready.values())} of {len(testnet.nodes)} nodes ready; next: {following}{record.elsewhere(testnet.dir)}")


def _cut_off(node: record.Node) -> list[str]:
    from meshos.node.cli.testnet import partition as cutting

    try:
        return cutting.cut_off(node)
    except MeshError as error:  # it ends in this moment, or knows no such question
        warn(str(error))
        return []


def _pid(node: record.Node, states: Mapping[str, str]) -> int | None:
    return node.pid if states[node.name] in ("running", "paused") else None


@app.command(epilog="Example: mesh testnet kill gamma-1")
def kill(context: typer.Context, name: NodeArgument, directory: Dir = None, as_json: JsonFlag = False) -> None:
    """SIGKILL: the node has no chance to say goodbye."""
    from meshos.node.cli.testnet import processes

    def act(testnet: record.Testnet, nodes: tuple[record.Node, ...]) -> record.Testnet:
        for node in nodes:
            if processes.state(node) == "stopped":
                raise processes.not_running(node)
        processes.kill(nodes)
        return _without_pids(testnet, nodes)

    _change(context, directory, name, act, "kill", "killed; see what the others see: mesh members", as_json)


@app.command(epilog="Example: mesh testnet stop gamma-1")
def stop(context: typer.Context, name: NodeArgument, directory: Dir = None, as_json: JsonFlag = False) -> None:
    """SIGTERM: the node leaves the mesh in order."""
    from meshos.node.cli.testnet import processes

    def act(testnet: record.Testnet, nodes: tuple[record.Node, ...]) -> record.Testnet:
        for node in nodes:
            if processes.state(node) == "stopped":
                raise processes.not_running(node)
        with progress() as shown:
            for late in processes.stop(nodes, shown.at):
                warn(f"{late} did not leave in {processes.STOP_S:g} s and was killed")
        return _without_pids(testnet, nodes)

    _change(context, directory, name, act, "stop", "left; next: mesh testnet start {name}", as_json)


@app.command(epilog="Example: mesh testnet start gamma-1")
def start(
    context: typer.Context,
    name: NodeArgument,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to become ready in.")] = READY_S,
    directory: Dir = None,
    as_json: JsonFlag = False,
) -> None:
    """Start a node that was stopped or killed, and wait until it is ready."""
    from meshos.node.cli.testnet import starting

    def act(testnet: record.Testnet, nodes: tuple[record.Node, ...]) -> record.Testnet:
        end_as_after_ctrl_c()
        with progress() as shown:
            return starting.start(testnet, nodes, timeout, shown).testnet

    _change(context, directory, name, act, "start", "ready; next: mesh members", as_json)


@app.command(epilog="Example: mesh testnet pause gamma-1")
def pause(context: typer.Context, name: NodeArgument, directory: Dir = None, as_json: JsonFlag = False) -> None:
    """SIGSTOP: the node stands still, as in a long garbage collection or a suspended machine."""
    _signal(context, directory, name, signal.SIGSTOP, "pause", "paused; go on with: mesh testnet resume {name}", as_json)


@app.command(epilog="Example: mesh testnet resume gamma-1")
def resume(context: typer.Context, name: NodeArgument, directory: Dir = None, as_json: JsonFlag = False) -> None:
    """SIGCONT: a paused node goes on."""
    _signal(context, directory, name, signal.SIGCONT, "resume", "goes on; next: mesh members", as_json)


@app.command(epilog="Example: mesh testnet partition alpha,beta/gamma,delta")
def partition(
    context: typer.Context,
    sides: Annotated[str, typer.Argument(metavar="A,B/C,D", help="Organisations or nodes; those not named hear everybody.")],
    directory: Dir = None,
    as_json: JsonFlag = False,
) -> None:
    """Cut the mesh in two or more; `heal` mends it."""
    from meshos.node.cli.testnet import partition as cutting

    folder = folder_of(context, directory)
    with record.changing(folder) as testnet:
        wanted = cutting.cuts(cutting.sides(testnet, sides))
        cutting.apply(testnet, wanted)
    if as_json:
        document("testnet-partition", {"cut": wanted})
    else:
        ok(f"cut: {sides}; mend it with: mesh testnet heal{record.elsewhere(folder)}")


@app.command(epilog="Example: mesh testnet heal")
def heal(context: typer.Context, directory: Dir = None, as_json: JsonFlag = False) -> None:
    """Let every running node hear every other again."""
    from meshos.node.cli.testnet import partition as cutting
    from meshos.node.cli.testnet import processes

    folder = folder_of(context, directory)
    with record.changing(folder) as testnet:
        running = [node.name for node in testnet.nodes if processes.state(node) == "running"]
        if not running:
            hint = f"start them with `mesh testnet up --detach{record.elsewhere(folder)}`; who starts hears everybody"
            raise BadInput("node-not-running", f"no node of the testnet in {folder} runs, so there is nothing to heal", hint=hint)
        cutting.apply(testnet, {name: [] for name in running})
    if as_json:
        document("testnet-heal", {"healed": running})
    else:
        ok(f"healed {len(running)} of {len(testnet.nodes)} nodes; next: mesh members{record.elsewhere(folder)}")


@app.command(epilog="Example: mesh testnet down")
def down(context: typer.Context, directory: Dir = None, as_json: JsonFlag = False) -> None:
    """End all nodes and keep their data; `up` resumes them."""
    target = folder_of(context, directory)
    ended = _down(target, quiet=as_json)
    if as_json:
        document("testnet-down", {"dir": str(target.absolute()), "ended": ended})


def _down(target: Path, *, quiet: bool) -> list[str]:
    from meshos.node.cli.testnet import processes

    with record.changing(target) as testnet:
        running = [node for node in testnet.nodes if processes.state(node) != "stopped"]
        with progress() as shown:
            late = processes.stop(running, shown.at)
        record.save(_without_pids(testnet, testnet.nodes))
    for name in late:
        warn(f"{name} did not leave in {processes.STOP_S:g} s and was killed")
    if not quiet:
        ok(f"{plural(len(running), 'node')} ended, data kept in {target}; next: mesh testnet up{record.elsewhere(target)}")
    return [node.name for node in running]


def _without_pids(testnet: record.Testnet, nodes: tuple[record.Node, ...]) -> record.Testnet:
    for node in nodes:
        testnet = testnet.with_pid(node.name, None)
    return testnet


def _signal(
    context: typer.Context, directory: Path | None, name: str, number: signal.Signals, command: str, verdict: str, as_json: bool
) -> None:
    from meshos.node.cli.testnet import processes

    def act(testnet: record.Testnet, nodes: tuple[record.Node, ...]) -> record.Testnet:
        for node in nodes:
            processes.send(node, number)
        return testnet

    _change(context, directory, name, act, command, verdict, as_json)


def _change(
    context: typer.Context,
    directory: Path | None,
    name: str,
    act: Callable[[record.Testnet, tuple[record.Node, ...]], record.Testnet],
    command: str,
    verdict: str,
    as_json: bool,
) -> None:
    """Do something to the nodes called ``name``, write the testnet down, and say so."""
    folder = folder_of(context, directory)
    with record.changing(folder) as testnet:
        nodes = testnet.of(name)
        record.save(act(testnet, nodes))
    names = [node.name for node in nodes]
    if as_json:
        document(f"testnet-{command}", {"nodes": names})
    else:
        ok(f"{', '.join(names)} {verdict.replace('{name}', name)}{record.elsewhere(folder)}")
