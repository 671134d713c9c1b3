"""``mesh backup`` and ``mesh restore``: a node's folder in a file, and back."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from meshos.node.cli.init import DEFAULT_DIR, DirOption
from meshos.node.cli.output import JsonFlag, document, note, ok, say, warn

BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
GenesisOption = Annotated[Path | None, typer.Option("--genesis", metavar="GENESIS", help="Refuse the backup of a node of another mesh.")]


def register(app: typer.Typer) -> None:
    """Add both."""
    app.command(epilog="Example: mesh backup acme-1.backup --dir acme-1")(backup)
    app.command(epilog="Example: mesh restore acme-1.backup --dir acme-1")(restore)


def backup(file: BackupFile, directory: DirOption = DEFAULT_DIR, as_json: JsonFlag = False) -> None:
    """Save a node that stands still in one file: all but its validator key, its agents' private folders and logs.

    Whoever has the file can be the node: keep it as safe as its folder.
    """
    from meshos.node import backup as backups
    from meshos.node.config import load

    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    saved = backups.make(load(directory), file, made=made)
    if as_json:
        document("backup", {"file": str(file), **asdict(saved)})
        return
    for path in saved.outside:
        warn(f"{path} lies outside of the folder: it is not in the backup")
    ok(f"{saved.name} of {saved.org} in {file}, {saved.files} files, {_size(saved.size_bytes)}; whoever has the file can be the node")


def restore(file: BackupFile, directory: DirOption = DEFAULT_DIR, genesis: GenesisOption = None, as_json: JsonFlag = False) -> None:
    """Make a node again from its backup, in a new folder, with a new validator key.

    It follows the mesh at once; it votes once its organisation has moved its seat to the new key, with the agreement that this prints
    and `mesh org register` where the root key is. Never run the old copy again.
    """
    from meshos.node import backup as backups
    from meshos.node import folder

    wanted = None if genesis is None else folder.read_genesis(genesis).hash
    restored = backups.restore(file, directory, wanted)
    saved = restored.backup
    if as_json:
        body = {**asdict(saved), "dir": str(restored.dir), "oldValidator": saved.validator, "validator": restored.validator}
        body["agreement"] = restored.agreement or None
        document("restore", body)
        return
    say(f"{saved.name} of {saved.org}, mesh {saved.mesh}")
    say(f"  node id        {saved.node}")
    say(f"  folder         {restored.dir}")
    say(f"  validator key  {restored.validator} (new)")
    warn(f"what it acknowledged after {saved.made} is not in it")
    warn(f"if other nodes have joined {saved.org} since then, do not start it: invite a new node there (mesh org invite)")
    warn("if it had a seat, it does not vote until its organisation moves that to the new key")
    ok(f"restored; never run the old copy again. Next: mesh run --dir {directory}")
    if restored.agreement:
        note("Then, if it had a seat: move it to the new key, where the root key of the organisation is, in force at the next checkpoint:")
        note(f"mesh org register {restored.agreement} --dir DIR")


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{max(1, size >> 10)} KiB"
