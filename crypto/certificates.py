"""X.509: how an organisation's root vouches for its nodes on links.

An organisation's root key signs its own certificate, one for each of its nodes, and its revocation lists; nothing else
signs any. The root key is needed for nothing else here and may stay offline. A node's certificate holds the node's own key and one name,
``spiffe://<mesh>/<kind>.<name>/<node id>``: the mesh (half of the genesis hash), the organisation, the node.

``verify_chain`` accepts a certificate only if the root that signed it is the mesh's root of the very organisation in its
name, so that none can certify another's nodes; only if the node id in its name is that of its key; and only if it is not
on that root's revocation list. Signatures are checked by the one verifier (``keys.verify_bytes``), not by OpenSSL.

All times are seconds since 1970 UTC. What comes from a stranger is refused by name (``Refused``).
"""

import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from meshos.crypto.keys import PublicKey, SigningKey, node_id, verify_bytes
from meshos.crypto.limits import (
    BACKDATED_S,
    CERTIFICATE_BYTES,
    CHAIN_LENGTH,
    CRL_BYTES,
    CRL_ENTRIES,
    CRL_NUMBER,
    NODE_LIFETIME_S,
    ROOT_LIFETIME_S,
)
from meshos.errors import BadInput, Refused
from meshos.ids import NodeId, OrgDid, Peer, org_did, parse_org_did

NOT_VOUCHED = frozenset({"certificate-revoked", "unknown-org", "wrong-org-root"})
"""By which refusals of ``verify_chain`` an organisation, or the mesh, has taken back its word; the others are a matter of time or form."""

_NAME = re.compile(r"spiffe://([0-9a-f]{32})/([a-z]+)\.([a-z0-9-]{1,63})/([1-9A-HJ-NP-Za-km-z]{52})")
_MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.InvalidVersion,
)
_KNOWN_EXTENSIONS = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
)


@dataclass(frozen=True, slots=True)
class NodeCertificate:
    """What a node's certificate says; nothing of it is proved but its form and that its name fits its key."""

    mesh_id: str
    peer: Peer
    key: PublicKey
    serial: int
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class RevocationList:
    """The serial numbers that an organisation's root revoked. Of two lists the one with the higher number counts."""

    org: OrgDid
    number: int
    serials: frozenset[int]
    der: bytes = field(default=b"", repr=False)
    """The list as its root signed it, to hand on."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe: in which mesh, the root key of each organisation, and their revocation lists."""

    mesh_id: str
    roots: Mapping[OrgDid, PublicKey]
    revoked: Mapping[OrgDid, RevocationList] = field(default_factory=lambda: MappingProxyType({}))
    leaving: Mapping[OrgDid, NodeId] = field(default_factory=lambda: MappingProxyType({}))
    """Organisations that have left, and of each the one node that is believed still, whatever else its root has certified."""


def spiffe_name(mesh_id: str, org: OrgDid, node: NodeId) -> str:
    """The name in a node's certificate. SPIFFE allows no colon in a path (SPIFFE-ID, section 2.2), hence the dot."""
    kind, name = parse_org_did(org)
    return f"spiffe://{mesh_id}/{kind}.{name}/{node}"


# -- issuing ---------------------------------------------------------------------------------------------------------


def new_root(root: SigningKey, org: OrgDid, *, now: float, lifetime_s: float = ROOT_LIFETIME_S) -> bytes:
    """The self-signed certificate of ``org``'s root key, in DER."""
    name = _root_name(org)
    usage = _key_usage(signs_certificates=True)
    key = Ed25519PublicKey.from_public_bytes(root.public.raw)
    builder = _begun(name, name, key, now, lifetime_s)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.sign(_private(root), None).public_bytes(Encoding.DER)


def issue(root: SigningKey, *, mesh_id: str, org: OrgDid, node: PublicKey, now: float, lifetime_s: float = NODE_LIFETIME_S) -> bytes:
    """The certificate, in DER, by which ``org``'s root says that ``node`` is its node."""
    key = Ed25519PublicKey.from_public_bytes(node.raw)
    peer = node_id(node)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, peer)])
    root_key = Ed25519PublicKey.from_public_bytes(root.public.raw)
    builder = _begun(subject, _root_name(org), key, now, lifetime_s)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = builder.add_extension(uses, critical=False)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_name(mesh_id, org, peer))])
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key), critical=False)
    return builder.sign(_private(root), None).public_bytes(Encoding.DER)


def revoke(root: SigningKey, org: OrgDid, serials: Iterable[int], *, number: int, now: float) -> bytes:
    """A revocation list in DER: all of ``serials``, with a ``number`` above that of every earlier list.

    It has no end of its own: the root may be offline, and an old list is better than none.
    """
    revoked = sorted(set(serials))
    if len(revoked) > CRL_ENTRIES:
        told = f"{len(revoked)} revoked certificates, at most {CRL_ENTRIES}"
        raise BadInput("crl-too-long", told, hint="give the organisation a new root")
    issued = _instant(now)
    builder = x509.CertificateRevocationListBuilder(_root_name(org), issued, issued + timedelta(seconds=ROOT_LIFETIME_S))
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(issued).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(_private(root), None).public_bytes(Encoding.DER)


def pem(der: bytes) -> bytes:
    """A certificate as the text that TLS libraries load."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def from_pem(text: bytes) -> bytes:
    """The DER of one certificate in PEM; raises Refused ``certificate-malformed``."""
    try:
        return x509.load_pem_x509_certificate(text).public_bytes(Encoding.DER)
    except ValueError as error:
        raise _malformed("it is no certificate in PEM") from error


def chain_from_pem(text: bytes) -> list[bytes]:
    """The DER of a node's certificate in PEM, and of its root's behind it where that stands there too.

    Raises Refused ``certificate-malformed``.
    """
    try:
        found = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(text)]
    except ValueError as error:
        raise _malformed("it is no certificate in PEM") from error
    if len(found) > CHAIN_LENGTH:
        raise _malformed(f"a chain has 1 to {CHAIN_LENGTH} certificates, this one {len(found)}")
    return found


def private_key_pem(key: SigningKey, password: bytes) -> bytes:
    """The key as encrypted PKCS #8, for TLS libraries that take a file and a password; draw the password for this one use."""
    return _private(key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))


# -- verifying -------------------------------------------------------------------------------------------------------


def verify_chain(der_chain: Sequence[bytes], trust: Trust, now: float) -> Peer:
    """Who holds the first certificate of ``der_chain``, which has one, or its root's as well.

    Raises Refused: ``certificate-malformed``, ``wrong-mesh``, ``wrong-node-key``, ``unknown-org``, ``wrong-org-root``,
    ``certificate-not-yet-valid``, ``certificate-expired``, ``certificate-revoked``.
    """
    if not 1 <= len(der_chain) <= CHAIN_LENGTH:
        raise _malformed(f"a chain has 1 to {CHAIN_LENGTH} certificates, this one {len(der_chain)}")
    certificate = _loaded(der_chain[0])
    said = _described(certificate)
    org = said.peer.org
    if said.mesh_id != trust.mesh_id:
        raise Refused("wrong-mesh", f"{said.peer.node} belongs to the mesh {said.mesh_id}, and this one is {trust.mesh_id}")
    root = trust.roots.get(org)
    if root is None:
        raise Refused("unknown-org", f"{org} is no organisation of this mesh")
    if trust.leaving.get(org, said.peer.node) != said.peer.node:
        raise Refused("unknown-org", f"{org} has left this mesh: of its nodes only the one whose vote has not ended yet is let in")
    if not _issued_by(certificate, org, root):
        raise Refused("wrong-org-root", f"the certificate of {said.peer.node} is not signed by the root of {org}, whose name it bears")
    if len(der_chain) > 1 and _key_of(_loaded(der_chain[1])) != root:
        raise Refused("wrong-org-root", f"the root sent along is not the mesh's root of {org}")
    if now < said.not_before:
        raise Refused("certificate-not-yet-valid", f"the certificate of {said.peer.node} begins at {_text(said.not_before)}")
    if now > said.not_after:
        raise Refused("certificate-expired", f"the certificate of {said.peer.node} ended at {_text(said.not_after)}")
    revoked = trust.revoked.get(org)
    if revoked is not None and said.serial in revoked.serials:
        raise Refused("certificate-revoked", f"{org} has revoked the certificate of {said.peer.node}")
    return said.peer


def describe(der: bytes) -> NodeCertificate:
    """What a node's certificate says of itself; raises Refused ``certificate-malformed`` or ``wrong-node-key``."""
    return _described(_loaded(der))


def verify_root(der: bytes, org: OrgDid, root: PublicKey) -> None:
    """Return if ``der`` is the certificate of ``org``'s root key, which every TLS library takes, as all nodes give it to theirs; raises
    Refused ``certificate-malformed`` or ``wrong-org-root``."""
    certificate = _loaded(der)
    try:
        extensions = _extensions(certificate)
        name = _root_name(org).public_bytes()  # names alone are equal whatever type of text they are
        named = certificate.subject.public_bytes() == certificate.issuer.public_bytes() == name
        is_root = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        signs = extensions.get_extension_for_class(x509.KeyUsage).value
        is_root = is_root and signs.key_cert_sign and signs.crl_sign
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem(der).decode("ascii"))
    except (*_MALFORMED, ssl.SSLError) as error:
        raise _malformed("a root's certificate lacks what makes it one") from error
    if not (is_root and named and _key_of(certificate) == root and _issued_by(certificate, org, root)):
        raise Refused("wrong-org-root", f"this is not the certificate of the root key of {org}")


def root_key(der: bytes, org: OrgDid) -> PublicKey:
    """The root key that ``der`` says is that of ``org``; whether to believe it is for others to say. Raises as ``verify_root``."""
    key = _key_of(_loaded(der))
    verify_root(der, org, key)
    return key


def read_revocations(der: bytes, org: OrgDid, root: PublicKey) -> RevocationList:
    """The revocation list in ``der``; raises Refused ``crl-malformed`` or ``wrong-org-root``."""
    if len(der) > CRL_BYTES:
        raise Refused("crl-malformed", f"a revocation list of {len(der)} bytes, at most {CRL_BYTES} are read")
    try:
        listed = x509.load_der_x509_crl(der)
        signed = listed.signature_algorithm_oid == SignatureAlgorithmOID.ED25519 and _ends_in(der, listed.signature)
        signed = signed and verify_bytes(root, listed.tbs_certlist_bytes, listed.signature) and listed.issuer == _root_name(org)
        if not signed:
            raise Refused("wrong-org-root", f"this revocation list is not signed by the root of {org}")
        number = listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        if not 0 <= number <= CRL_NUMBER:
            raise Refused("crl-malformed", f"the number of a revocation list is between 0 and {CRL_NUMBER}")
        if len(listed) > CRL_ENTRIES:
            raise Refused("crl-malformed", f"{len(listed)} revoked certificates, at most {CRL_ENTRIES} are read")
        return RevocationList(org, number, frozenset(entry.serial_number for entry in listed), der)
    except _MALFORMED as error:
        raise Refused("crl-malformed", "this is not a revocation list that can be read") from error


# -- pieces ----------------------------------------------------------------------------------------------------------


def _loaded(der: bytes) -> x509.Certificate:
    if len(der) > CERTIFICATE_BYTES:
        raise _malformed(f"{len(der)} bytes, at most {CERTIFICATE_BYTES} are read")
    try:
        certificate = x509.load_der_x509_certificate(der)
        signed = certificate.signature_algorithm_oid == SignatureAlgorithmOID.ED25519 and _ends_in(der, certificate.signature)
        if certificate.version is x509.Version.v3 and signed:
            return certificate
    except _MALFORMED as error:
        raise _malformed("these bytes are not a certificate") from error
    raise _malformed("it is not an X.509 version 3 certificate signed with Ed25519")


def _ends_in(der: bytes, signature: bytes) -> bool:
    """Whether the signature stands at the end as DER wants it: the parser also takes a bit string whose last bits do not count."""
    return der.endswith(b"\x03\x41\x00" + signature)


def _key_of(certificate: x509.Certificate) -> PublicKey:
    try:
        key = certificate.public_key()
    except _MALFORMED as error:
        raise _malformed("its key cannot be read") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _malformed("its key is not an Ed25519 key")
    try:
        return PublicKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    except Refused as error:
        raise _malformed(error.detail) from error


def _extensions(certificate: x509.Certificate) -> x509.Extensions:
    extensions = certificate.extensions
    for extension in extensions:
        if extension.critical and not isinstance(extension.value, _KNOWN_EXTENSIONS):
            raise ValueError("a critical extension that nobody here knows")
    return extensions


def _described(certificate: x509.Certificate) -> NodeCertificate:
    try:
        extensions = _extensions(certificate)
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        is_authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        signs = extensions.get_extension_for_class(x509.KeyUsage).value
        uses = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        not_before, not_after = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    except _MALFORMED as error:
        raise _malformed("a node's certificate lacks something, or has something that cannot be read") from error
    if is_authority or signs.key_cert_sign or signs.crl_sign or not signs.digital_signature:
        raise _malformed("a node's certificate may sign handshakes and no certificates")
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= uses:
        raise _malformed("a node is both client and server")
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise _malformed("a node has exactly one name, a SPIFFE id")
    match = _NAME.fullmatch(names[0].value)
    if match is None:
        raise _malformed("its name is not spiffe://<mesh>/<kind>.<name>/<node id>")
    mesh_id, kind, name, node = match.groups()
    try:
        org = org_did(kind, name)
    except ValueError as error:
        raise _malformed(f"its name holds no organisation: {error}") from error
    key = _key_of(certificate)
    if node_id(key) != node:
        raise Refused("wrong-node-key", f"the certificate bears the name of {node}, and the key of {node_id(key)}")
    return NodeCertificate(mesh_id, Peer(NodeId(node), org), key, certificate.serial_number, not_before, not_after)


def _issued_by(certificate: x509.Certificate, org: OrgDid, root: PublicKey) -> bool:
    if not verify_bytes(root, certificate.tbs_certificate_bytes, certificate.signature):
        return False
    try:
        return certificate.issuer == _root_name(org)
    except _MALFORMED as error:
        raise _malformed("its issuer cannot be read") from error


def _root_name(org: OrgDid) -> x509.Name:
    """A DID can be longer than a common name's 64 characters (RFC 5280, appendix A), so it is split."""
    kind, name = parse_org_did(org)
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, kind), x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(subject: x509.Name, issuer: x509.Name, key: Ed25519PublicKey, now: float, lifetime_s: float) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=_instant(now - BACKDATED_S),
        not_valid_after=_instant(now + lifetime_s),
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: SigningKey) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(key.seed())


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _text(seconds: float) -> str:
    return _instant(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def _malformed(why: str) -> Refused:
    return Refused("certificate-malformed", f"a certificate cannot be used: {why}")
