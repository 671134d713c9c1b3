"""Certificates: a chain proves a node only if the mesh's root of the very organisation in its name has signed it."""

import dataclasses
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshos.crypto import certificates
from meshos.crypto.certificates import Trust, describe, issue, new_root, read_revocations, revoke, verify_chain, verify_root
from meshos.crypto.keys import SigningKey, node_id
from meshos.crypto.limits import CERTIFICATE_BYTES
from meshos.errors import BadInput, Refused
from meshos.ids import Peer, org_did

NOW = 1_800_000_000.0
DAY = 86_400
MESH = "0123456789abcdef" * 2
ACME, UNI = org_did("enterprise", "acme"), org_did("university", "x" * 63)
ACME_ROOT, UNI_ROOT, NODE = (SigningKey(letter * 32) for letter in (b"r", b"u", b"n"))
TRUST = Trust(MESH, {ACME: ACME_ROOT.public, UNI: UNI_ROOT.public})
GOOD = issue(ACME_ROOT, mesh_id=MESH, org=ACME, node=NODE.public, now=NOW)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.name


def chain_refusal(*chain: bytes, trust: Trust = TRUST, now: float = NOW) -> str:
    return refusal(lambda: verify_chain(chain, trust, now))


def test_a_chain_proves_node_and_organisation() -> None:
    peer = Peer(node_id(NODE.public), ACME)
    assert verify_chain([GOOD], TRUST, NOW) == peer
    assert verify_chain([GOOD, new_root(ACME_ROOT, ACME, now=NOW)], TRUST, NOW) == peer


def test_the_longest_name_fits() -> None:
    der = issue(UNI_ROOT, mesh_id=MESH, org=UNI, node=NODE.public, now=NOW)
    assert verify_chain([der, new_root(UNI_ROOT, UNI, now=NOW)], TRUST, NOW).org == UNI


def test_time_is_checked_at_both_ends() -> None:
    der = issue(ACME_ROOT, mesh_id=MESH, org=ACME, node=NODE.public, now=NOW, lifetime_s=DAY)
    verify_chain([der], TRUST, NOW - 3_599)
    verify_chain([der], TRUST, NOW + DAY)
    assert chain_refusal(der, now=NOW - 3_601) == "certificate-not-yet-valid"
    assert chain_refusal(der, now=NOW + DAY + 1) == "certificate-expired"


def test_no_organisation_certifies_another_ones_node() -> None:
    """Signed by a root of this mesh, but not by that of the organisation in the name."""
    der = issue(UNI_ROOT, mesh_id=MESH, org=ACME, node=NODE.public, now=NOW)
    assert chain_refusal(der) == "wrong-org-root"
    assert chain_refusal(der, new_root(UNI_ROOT, UNI, now=NOW)) == "wrong-org-root"
    assert chain_refusal(GOOD, new_root(UNI_ROOT, UNI, now=NOW)) == "wrong-org-root"


def test_an_unknown_root_is_refused() -> None:
    stranger = SigningKey(b"s" * 32)
    nobody = org_did("community", "nobody")
    assert chain_refusal(issue(stranger, mesh_id=MESH, org=ACME, node=NODE.public, now=NOW)) == "wrong-org-root"
    assert chain_refusal(issue(stranger, mesh_id=MESH, org=nobody, node=NODE.public, now=NOW)) == "unknown-org"


def test_another_mesh_is_refused() -> None:
    assert chain_refusal(issue(ACME_ROOT, mesh_id="f" * 32, org=ACME, node=NODE.public, now=NOW)) == "wrong-mesh"


def test_revocation() -> None:
    other = issue(ACME_ROOT, mesh_id=MESH, org=ACME, node=SigningKey(b"o" * 32).public, now=NOW)
    listed = read_revocations(revoke(ACME_ROOT, ACME, [describe(GOOD).serial], number=4, now=NOW), ACME, ACME_ROOT.public)
    trust = dataclasses.replace(TRUST, revoked={ACME: listed})
    assert listed.number == 4
    assert chain_refusal(GOOD, trust=trust) == "certificate-revoked"
    assert verify_chain([other], trust, NOW).org == ACME


def test_a_revocation_list_of_another_root_is_refused() -> None:
    der = revoke(UNI_ROOT, ACME, [1], number=1, now=NOW)
    assert refusal(lambda: read_revocations(der, ACME, ACME_ROOT.public)) == "wrong-org-root"
    der = revoke(ACME_ROOT, UNI, [1], number=1, now=NOW)
    assert refusal(lambda: read_revocations(der, ACME, ACME_ROOT.public)) == "wrong-org-root"


def test_a_revocation_list_has_bounds() -> None:
    with pytest.raises(BadInput) as caught:
        revoke(ACME_ROOT, ACME, range(1, 20_002), number=1, now=NOW)
    assert caught.value.name == "crl-too-long"
    assert refusal(lambda: read_revocations(bytes(2**21), ACME, ACME_ROOT.public)) == "crl-malformed"
    der = revoke(ACME_ROOT, ACME, [1, 2], number=1, now=NOW)
    for end in range(len(der)):
        assert refusal(lambda end=end: read_revocations(der[:end], ACME, ACME_ROOT.public)) == "crl-malformed"  # type: ignore[misc]


def test_a_certificate_has_one_form_only() -> None:
    """A signature whose last bit is 0 may also be written as a bit string in which that bit does not count."""
    signed = (issue(ACME_ROOT, mesh_id=MESH, org=ACME, node=NODE.public, now=NOW + number) for number in range(64))
    der = next(item for item in signed if item[-1] & 1 == 0)
    assert der[-65] == 0
    assert chain_refusal(der[:-65] + b"\x01" + der[-64:]) == "certificate-malformed"


def test_every_changed_or_lost_byte_is_noticed() -> None:
    for place in range(len(GOOD)):
        changed = bytearray(GOOD)
        changed[place] ^= 1
        assert chain_refusal(bytes(changed))
        assert chain_refusal(GOOD[:place]) == "certificate-malformed"


@pytest.mark.parametrize("chain", [[], [b""], [b"nonsense"], [GOOD, b"nonsense"], [GOOD] * 3, [b"\x30" * (CERTIFICATE_BYTES + 1)]])
def test_what_is_no_chain_is_refused(chain: list[bytes]) -> None:
    assert chain_refusal(*chain) == "certificate-malformed"


def test_a_root_is_no_node() -> None:
    assert chain_refusal(new_root(ACME_ROOT, ACME, now=NOW)) == "certificate-malformed"


# -- what only a root that does not keep to the rules would sign -------------------------------------------------------

URI = certificates.spiffe_name(MESH, ACME, node_id(NODE.public))


def odd(
    *,
    names: list[x509.GeneralName] | None = None,
    key: SigningKey = NODE,
    ca: bool = False,
    uses: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    extra: x509.ExtensionType | None = None,
) -> bytes:
    """A certificate with one oddity, properly signed by the root of acme."""
    model = x509.load_der_x509_certificate(GOOD)
    start, end = datetime.fromtimestamp(NOW - 60, UTC), datetime.fromtimestamp(NOW + DAY, UTC)
    public = Ed25519PrivateKey.from_private_bytes(key.seed()).public_key()
    builder = x509.CertificateBuilder(model.issuer, model.subject, public, 1, start, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    builder = builder.add_extension(model.extensions.get_extension_for_class(x509.KeyUsage).value, critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(list(uses)), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names or [x509.UniformResourceIdentifier(URI)]), critical=False)
    if extra is not None:
        builder = builder.add_extension(extra, critical=True)
    return builder.sign(Ed25519PrivateKey.from_private_bytes(ACME_ROOT.seed()), None).public_bytes(Encoding.DER)


def test_the_oddities_below_are_refused_for_nothing_else() -> None:
    assert verify_chain([odd()], TRUST, NOW) == Peer(node_id(NODE.public), ACME)


def test_a_node_id_that_is_not_of_the_key_is_refused() -> None:
    assert chain_refusal(odd(key=SigningKey(b"o" * 32))) == "wrong-node-key"


@pytest.mark.parametrize(
    "names",
    [
        [x509.DNSName("acme.example")],
        [x509.UniformResourceIdentifier(URI), x509.UniformResourceIdentifier(URI)],
        [x509.UniformResourceIdentifier(URI), x509.DNSName("acme.example")],
        [x509.UniformResourceIdentifier(URI + "/x")],
        [x509.UniformResourceIdentifier(URI.replace("enterprise.acme", "enterprise.Acme"))],
        [x509.UniformResourceIdentifier(URI.replace("enterprise.acme", "empire.acme"))],
        [x509.UniformResourceIdentifier(URI.replace("enterprise.acme", "enterprise.-acme"))],
        [x509.UniformResourceIdentifier(URI.replace("spiffe", "https"))],
    ],
    ids=str,
)
def test_another_name_is_refused(names: list[x509.GeneralName]) -> None:
    assert chain_refusal(odd(names=names)) == "certificate-malformed"


def test_a_certificate_for_another_use_is_refused() -> None:
    assert chain_refusal(odd(ca=True)) == "certificate-malformed"
    assert chain_refusal(odd(uses=(ExtendedKeyUsageOID.SERVER_AUTH,))) == "certificate-malformed"
    assert chain_refusal(odd(extra=x509.OCSPNoCheck())) == "certificate-malformed"


def test_another_kind_of_key_is_refused() -> None:
    key = generate_private_key(SECP256R1())
    model = x509.load_der_x509_certificate(GOOD)
    start, end = datetime.fromtimestamp(NOW - 60, UTC), datetime.fromtimestamp(NOW + DAY, UTC)
    builder = x509.CertificateBuilder(model.issuer, model.subject, key.public_key(), 1, start, end)
    assert chain_refusal(builder.sign(key, SHA256()).public_bytes(Encoding.DER)) == "certificate-malformed"


# -- roots, and the real thing ------------------------------------------------------------------------------------------


def test_a_roots_certificate_is_that_of_its_key_and_organisation() -> None:
    der = new_root(ACME_ROOT, ACME, now=NOW)
    verify_root(der, ACME, ACME_ROOT.public)
    assert refusal(lambda: verify_root(der, UNI, ACME_ROOT.public)) == "wrong-org-root"
    assert refusal(lambda: verify_root(der, ACME, UNI_ROOT.public)) == "wrong-org-root"
    assert refusal(lambda: verify_root(GOOD, ACME, ACME_ROOT.public)) == "wrong-org-root"
    assert refusal(lambda: verify_root(b"nonsense", ACME, ACME_ROOT.public)) == "certificate-malformed"


def context(tmp_path: Path, protocol: int, root: SigningKey, key: SigningKey, org: str, now: float) -> ssl.SSLContext:
    made = ssl.SSLContext(protocol)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    for some_root, did in ((ACME_ROOT, ACME), (UNI_ROOT, UNI)):
        made.load_verify_locations(cadata=new_root(some_root, did, now=now))
    file = tmp_path / f"{org[-4:]}.pem"
    did = ACME if org == ACME else UNI
    der = issue(root, mesh_id=MESH, org=did, node=key.public, now=now)
    file.write_bytes(certificates.private_key_pem(key, b"once") + certificates.pem(der))
    made.load_cert_chain(file, password=b"once")
    return made


def test_two_organisations_meet_over_tls(tmp_path: Path) -> None:
    """OpenSSL accepts the certificates on both sides, and the name is then proved by ours."""
    now = datetime.now(UTC).timestamp()
    one, two = SigningKey.generate(), SigningKey.generate()
    server = context(tmp_path, ssl.PROTOCOL_TLS_SERVER, ACME_ROOT, one, ACME, now)
    client = context(tmp_path, ssl.PROTOCOL_TLS_CLIENT, UNI_ROOT, two, UNI, now)
    left, right = socket.socketpair()
    left.settimeout(20)
    right.settimeout(20)
    seen: list[bytes | None] = []

    def serve() -> None:
        with server.wrap_socket(left, server_side=True) as link:
            link.recv(1)
            seen.append(link.getpeercert(binary_form=True))

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(right) as link:
        link.send(b"x")
        assert link.version() == "TLSv1.3"
        server_der = link.getpeercert(binary_form=True)
        thread.join(20)
    assert server_der is not None and seen[0] is not None
    assert verify_chain([server_der], TRUST, now) == Peer(node_id(one.public), ACME)
    assert verify_chain([seen[0]], TRUST, now) == Peer(node_id(two.public), UNI)


def test_a_revocation_list_of_another_version_is_malformed() -> None:
    root, org = SigningKey(b"r" * 32), org_did("enterprise", "acme")
    der = certificates.revoke(root, org, [1], number=5, now=1.8e9)
    at = der.index(b"\x02\x01\x01") + 2
    with pytest.raises(Refused) as caught:
        certificates.read_revocations(der[:at] + b"\x02" + der[at + 1 :], org, root.public)
    assert caught.value.name == "crl-malformed"


@pytest.mark.parametrize("tag", [b"\x04", b"\x13", b"\x16", b"\x17", b"\x18", b"\x1e"])
def test_a_root_whose_name_is_no_utf_8_text_is_none(tag: bytes) -> None:
    """OpenSSL takes some of them, and raises at others: of a root on the ledger, at every node."""
    root, org = SigningKey(b"r" * 32), org_did("enterprise", "acme")
    der = new_root(root, org, now=1.7e9)
    verify_root(der, org, root.public)
    tbs = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    at = der.index(tbs)
    for odd in (tbs.replace(b"\x06\x03\x55\x04\x03\x0c", b"\x06\x03\x55\x04\x03" + tag, count) for count in (1, 2)):
        assert odd != tbs
        with pytest.raises(Refused):
            verify_root(der[:at] + odd + der[at + len(tbs) : -64] + root.sign_bytes(odd), org, root.public)
