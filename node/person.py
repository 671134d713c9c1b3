"""A person's key file: made and opened on the person's own machine. No node ever has it (DESIGN.md, "People")."""

import getpass
import os
import sys
from pathlib import Path

from meshos.crypto.keys import SigningKey
from meshos.crypto.keystore import ROOT_COST, Cost, FileKeyStore, Passphrase
from meshos.errors import BadInput
from meshos.node.folder import PASSPHRASE_VARIABLE, exported

KEY_NAME = "human"
PASSPHRASE_FILE = "passphrase"


def new_key(file: Path, passphrase: Passphrase, cost: Cost = ROOT_COST) -> SigningKey:
    """A new key file; raises as ``FileKeyStore.store``."""
    return exported(FileKeyStore.create(file, passphrase, (KEY_NAME,), cost), KEY_NAME)


def open_key(file: Path) -> SigningKey:
    """The person's key; raises as ``FileKeyStore.open`` and ``passphrase_for``."""
    if not file.exists():
        raise BadInput("no-keys", f"there is no key file {file}", hint="`mesh key new FILE` makes one")
    return exported(FileKeyStore.open(file, passphrase_for(file, new=False)), KEY_NAME)


def passphrase_for(file: Path, *, new: bool) -> Passphrase:
    """What opens the key file: MESH_PASSPHRASE, else the file ``passphrase`` beside it, else what is typed.

    Raises BadInput ``bad-passphrase`` or ``loose-permissions``.
    """
    if PASSPHRASE_VARIABLE in os.environ:
        return Passphrase.from_environment(PASSPHRASE_VARIABLE, os.environ)
    beside = file.absolute().parent / PASSPHRASE_FILE
    if beside.exists():
        return Passphrase.from_file(beside)
    if not sys.stdin.isatty():
        hint = f"set {PASSPHRASE_VARIABLE}, or run this in a terminal"
        raise BadInput("bad-passphrase", f"nothing says what opens {file}", hint=hint)
    typed = getpass.getpass(f"Passphrase of {file}: ")
    if new and getpass.getpass("Again: ") != typed:
        raise BadInput("bad-passphrase", "the two differ", hint="try again")
    return Passphrase(typed.encode())
