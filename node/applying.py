"""Applications: how an organisation that is not in genesis asks the others to admit it, in one word of text.

Its root key signs that it shall be the root of this organisation in this mesh, and never leaves its folder. Whoever has a node of a voting
organisation moves what the text says (``mesh propose``, ``consensus/ledger/motions.py``: ``Admit``), and the others vote.

    mesh-application1-<base64url of CBOR [did, root Multikey, root certificate (DER), signature]>

Nothing is secret in it. It counts for one mesh and one organisation.
"""

from meshos.consensus.ledger.keys import ROOT, possession
from meshos.consensus.ledger.motions import Admit, read_subject
from meshos.crypto.certificates import verify_root
from meshos.crypto.keys import SigningKey, multikey, public_key_of_multikey
from meshos.crypto.signing import sign, verify_many
from meshos.crypto.words import read_word, word_chars, word_of
from meshos.errors import BadInput, MeshError, Refused
from meshos.genesis import Genesis, parse_org
from meshos.genesis_content import MAX_CERTIFICATE_BYTES
from meshos.ids import OrgDid
from meshos.node import folder
from meshos.node.api.limits import APPLICATION_CHARS
from meshos.node.config import NodeConfig
from meshos.protocols.square.join import TEXT_CHARS

MARK = "mesh-application1-"
MAX_BYTES = 512 + MAX_CERTIFICATE_BYTES
assert word_chars(MARK, MAX_BYTES) <= min(APPLICATION_CHARS, TEXT_CHARS)


def of_folder(config: NodeConfig, genesis: Genesis, root: SigningKey | None = None) -> str:
    """The application of the organisation whose root key and entry lie in the folder; ``root`` is that key, where it is open already.

    Raises BadInput ``root-key-not-here`` or ``org-in-genesis``, Refused ``wrong-org-root`` if its entry is not that of the root key.
    """
    if genesis.org(config.org) is not None:
        told = f"{config.org} is one of the organisations that this genesis names"
        raise BadInput("org-in-genesis", told, hint=f"finish its node: mesh init --dir {config.dir} --genesis genesis.json")
    root = root or folder.open_root(config)
    entry = parse_org(folder.read_file(config.dir / folder.ORG_FILE))
    verify_root(entry.root_certificate, config.org, root.public)
    return of_root(root, entry.root_certificate, genesis.hash, config.org)


def of_root(root: SigningKey, certificate: bytes, genesis_hash: bytes, org: OrgDid) -> str:
    """The application of ``org``; ``certificate`` is that of its root key (DER)."""
    public = multikey(root.public)
    claim = possession(genesis_hash, public, org, ROOT, b"")
    return text_of(Admit(org, public, certificate, sign(root, claim.domain, claim.payload)))


def text_of(asked: Admit) -> str:
    """The application that says this."""
    return word_of(MARK, [asked.did, asked.root, asked.certificate, asked.agrees])


def read(text: str, genesis_hash: bytes) -> Admit:
    """What is moved to admit the organisation; its signature holds for this mesh, and its certificate is that of its root key.

    Raises Refused ``application-malformed``, or ``wrong-mesh`` if it was not signed for this mesh.
    """
    asked = _admit(text)
    check_certificate(asked)
    if not all(verify_many(asked.claims(genesis_hash))):
        hint = "have it made anew there, with the genesis of this mesh: mesh org apply --genesis F"
        raise Refused("wrong-mesh", f"the application of {asked.did} was not signed for this mesh", hint=hint)
    return asked


def check_certificate(asked: Admit) -> None:
    """Raise Refused ``application-malformed`` unless the certificate is that of the root key: the ledger keeps it, and links ask for it."""
    try:
        verify_root(asked.certificate, OrgDid(asked.did), public_key_of_multikey(asked.root))
    except MeshError as error:
        raise _malformed(f"the certificate in it is not that of the root key of {asked.did}") from error


def _admit(text: str) -> Admit:
    try:
        value = read_word(text, MARK, MAX_BYTES)
        asked = read_subject(["admit", *value] if isinstance(value, list) else value)
    except ValueError as error:
        raise _malformed(str(error)) from error
    except Refused as error:
        raise _malformed("it does not hold what an application holds") from error
    if not isinstance(asked, Admit):
        raise _malformed("it does not hold what an application holds")
    return asked


def _malformed(why: str) -> Refused:
    return Refused("application-malformed", f"this is no application: {why}", hint="`mesh org apply` makes them")
