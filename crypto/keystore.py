"""Where a node's keys are kept. Signing is I/O: the key may sit in a TPM or an HSM. Keys of a file lie in memory, and sign at once.

``KeyStore`` is the port that everything signs through. ``FileKeyStore`` is the store on one encrypted file.

The file is a line ``meshos-keys/1``, then canonical CBOR ``[header, ciphertext, SHA-256 of both]`` (the hash tells a damaged file from
a wrong passphrase). The header (CBOR too) holds salt, nonce and the
cost of Argon2id (RFC 9106); the ciphertext is XChaCha20-Poly1305 of a map from names to seeds, with the line and the header
authenticated beside it. A file is written to a new file, synced, renamed over the old one, and its folder synced:
whatever interrupts, one of the two is there, whole. Two processes must not write one file (a node locks its folder).

Seeds and passphrases never show in ``repr``, errors or logs.
"""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from nacl import bindings, pwhash
from nacl.exceptions import CryptoError

from meshos import cbor
from meshos.crypto.keys import SEED_BYTES, PublicKey, SigningKey
from meshos.crypto.limits import KEYSTORE_BYTES, KEYSTORE_KEYS, KEYSTORE_MEMORY_BYTES, KEYSTORE_PASSES, PASSPHRASE_BYTES
from meshos.crypto.signing import Domain, sign
from meshos.errors import BadInput, Failed, Refused

_LINE = b"meshos-keys/1\n"
_SALT_BYTES = 16
_NONCE_BYTES = bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?")


class KeyStore(Protocol):
    """Keys by name. All raise Refused ``no-such-key`` for a name that is not there."""

    async def public_key(self, name: str) -> PublicKey:
        """The public half."""
        ...

    async def sign(self, name: str, domain: Domain, payload: bytes) -> bytes:
        """As ``signing.sign`` with the key called ``name``."""
        ...

    async def export(self, name: str) -> SigningKey:
        """The key itself, for TLS and boxes, whose libraries must hold it; a store whose keys cannot leave refuses."""
        ...


class Passphrase:
    """What a key file is encrypted with. Read from a file or the environment, never from an argument, which others can see."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if not 1 <= len(secret) <= PASSPHRASE_BYTES:
            raise BadInput("bad-passphrase", f"a passphrase has 1 to {PASSPHRASE_BYTES} bytes, this one {len(secret)}")
        self._secret = secret

    @classmethod
    def from_file(cls, path: Path) -> "Passphrase":
        """The first line of a file that only its owner may read; raises BadInput ``bad-passphrase`` or ``loose-permissions``."""
        try:
            with path.open("rb") as file:
                _only_owners(os.fstat(file.fileno()), path)
                data = file.read(PASSPHRASE_BYTES + 2)
        except OSError as error:
            raise BadInput("bad-passphrase", f"the passphrase file {path} cannot be read: {error.strerror}") from error
        return cls(data.split(b"\n", 1)[0].removesuffix(b"\r"))

    @classmethod
    def from_environment(cls, variable: str, environment: Mapping[str, str]) -> "Passphrase":
        """The value of an environment variable; raises BadInput ``bad-passphrase`` if it is not set."""
        if variable not in environment:
            raise BadInput("bad-passphrase", f"the environment variable {variable} is not set", hint="set it, or name a passphrase file")
        return cls(os.fsencode(environment[variable]))

    def key(self, salt: bytes, cost: "Cost") -> bytes:
        """Argon2id: 32 bytes."""
        return pwhash.argon2id.kdf(32, self._secret, salt, opslimit=cost.passes, memlimit=cost.memory_bytes)

    def __repr__(self) -> str:
        return "Passphrase(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a passphrase is not pickled or copied")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one try of a passphrase costs: Argon2id passes over so much memory."""

    passes: int
    memory_bytes: int

    def __post_init__(self) -> None:
        if not (1 <= self.passes <= KEYSTORE_PASSES and 8_192 <= self.memory_bytes <= KEYSTORE_MEMORY_BYTES):
            raise ValueError(f"1 to {KEYSTORE_PASSES} passes over 8 KiB to {KEYSTORE_MEMORY_BYTES} bytes")


NODE_COST = Cost(pwhash.argon2id.OPSLIMIT_INTERACTIVE, pwhash.argon2id.MEMLIMIT_INTERACTIVE)
"""For keys that a node opens whenever it starts: 64 MiB, about 0.1 s."""
ROOT_COST = Cost(pwhash.argon2id.OPSLIMIT_MODERATE, pwhash.argon2id.MEMLIMIT_MODERATE)
"""For an organisation's root key, which is opened by a person and may be carried about: 256 MiB, about 0.7 s."""
TEST_COST = Cost(pwhash.argon2id.OPSLIMIT_MIN, pwhash.argon2id.MEMLIMIT_MIN)
"""For tests only: no protection to speak of."""


class FileKeyStore:
    """Keys in one encrypted file, held in memory while the store is open.

    ``create``, ``open`` and ``add`` block (Argon2id, fsync): call them before the event loop or in a worker thread.
    """

    def __init__(self, path: Path, keys: dict[str, SigningKey], lock: "_Lock") -> None:
        self.path = path
        self._keys = keys
        self._lock = lock

    @classmethod
    def create(cls, path: Path, passphrase: Passphrase, names: tuple[str, ...], cost: Cost = NODE_COST) -> "FileKeyStore":
        """A new file (0600, in a folder 0700 that is made if need be) with new keys; raises BadInput ``keys-exist``."""
        return cls.store(path, passphrase, {name: SigningKey.generate() for name in names}, cost)

    @classmethod
    def store(cls, path: Path, passphrase: Passphrase, keys: Mapping[str, SigningKey], cost: Cost = NODE_COST) -> "FileKeyStore":
        """As ``create``, of keys that exist already."""
        for name in keys:
            _check_name(name)
        if os.path.lexists(path):
            raise BadInput("keys-exist", f"{path} exists, and keys are never overwritten", hint="choose another folder")
        _make_folder(path.parent)
        salt = bindings.randombytes(_SALT_BYTES)
        opened = cls(path, dict(keys), _Lock(salt, cost, passphrase.key(salt, cost)))
        opened._write(fresh=True)
        return opened

    @classmethod
    def open(cls, path: Path, passphrase: Passphrase) -> "FileKeyStore":
        """The keys of a file.

        Raises BadInput ``no-keys`` or ``loose-permissions``, Refused ``wrong-passphrase`` or ``keys-corrupt``.
        """
        data = _read(path)
        if not data.startswith(_LINE):
            raise _corrupt(path, "it does not begin as a key file does")
        header, lock, ciphertext = _opened_header(path, data[len(_LINE) :], passphrase)
        try:
            plain = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, _LINE + header.raw, header.nonce, lock.key)
        except CryptoError as error:
            raise Refused("wrong-passphrase", f"this passphrase does not open {path}") from error
        return cls(path, _keys_in(path, plain), lock)

    def names(self) -> tuple[str, ...]:
        """The names of all keys, in order."""
        return tuple(sorted(self._keys))

    def add(self, name: str, key: SigningKey) -> None:
        """Keep one more key; on disk when this returns. Raises BadInput ``keys-exist``, Refused ``busy``."""
        _check_name(name)
        if name in self._keys:
            raise BadInput("keys-exist", f"{self.path} holds a key called {name}, and keys are never overwritten")
        if len(self._keys) >= KEYSTORE_KEYS:
            raise Refused("busy", f"{self.path} holds {KEYSTORE_KEYS} keys and no more", hint="begin another key file")
        before = self._keys
        self._keys = {**before, name: key}
        try:
            self._write(fresh=False)
        except BaseException:
            self._keys = before
            raise

    async def public_key(self, name: str) -> PublicKey:
        """See ``KeyStore``."""
        return self._key(name).public

    async def sign(self, name: str, domain: Domain, payload: bytes) -> bytes:
        """See ``KeyStore``; 40 µs in place, which is less than a thread costs."""
        return self.sign_now(name, domain, payload)

    def sign_now(self, name: str, domain: Domain, payload: bytes) -> bytes:
        """As ``sign``: these keys lie in memory, so nothing is waited for."""
        return sign(self._key(name), domain, payload)

    async def export(self, name: str) -> SigningKey:
        """See ``KeyStore``."""
        return self._key(name)

    def __repr__(self) -> str:
        return f"FileKeyStore({str(self.path)!r}, {', '.join(self.names())})"

    def _key(self, name: str) -> SigningKey:
        key = self._keys.get(name)
        if key is None:
            raise Refused("no-such-key", f"{self.path} holds no key called {name[:64]!r}")
        return key

    def _write(self, *, fresh: bool) -> None:
        nonce = bindings.randombytes(_NONCE_BYTES)
        header = cbor.encode([self._lock.salt, nonce, self._lock.cost.passes, self._lock.cost.memory_bytes])
        plain = cbor.encode({name: key.seed() for name, key in self._keys.items()})
        sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, _LINE + header, nonce, self._lock.key)
        data = _LINE + cbor.encode([header, sealed, _digest(header, sealed)])
        try:
            _replace(self.path, data, fresh=fresh)
        except FileExistsError as error:
            raise BadInput("keys-exist", f"{self.path} exists, and keys are never overwritten", hint="choose another folder") from error
        except OSError as error:
            raise Failed("keys-not-written", f"the key file {self.path} cannot be written: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class _Lock:
    """What a file is encrypted with: kept while it is open, so that a key can be added without the passphrase."""

    salt: bytes
    cost: Cost
    key: bytes

    def __repr__(self) -> str:
        return "_Lock(…)"


@dataclass(frozen=True, slots=True)
class _Header:
    raw: bytes
    nonce: bytes


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            _only_owners(os.fstat(file.fileno()), path)
            data = file.read(KEYSTORE_BYTES + 1)
    except FileNotFoundError as error:
        raise BadInput("no-keys", f"there is no key file {path}", hint="`mesh init` makes one") from error
    except OSError as error:
        raise BadInput("no-keys", f"the key file {path} cannot be read: {error.strerror}") from error
    if len(data) > KEYSTORE_BYTES:
        raise _corrupt(path, f"it has more than {KEYSTORE_BYTES} bytes")
    return data


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError as error:
        raise Failed("keys-not-written", f"the folder {folder} cannot be made: {error.strerror}") from error
    if mode & 0o022:
        raise BadInput("loose-permissions", f"others than its owner may change the folder {folder}", hint=f"chmod 700 {folder}")


def _only_owners(status: os.stat_result, path: Path) -> None:
    if stat.S_IMODE(status.st_mode) & 0o077:
        told = f"others than its owner may read or change {path}"
        raise BadInput("loose-permissions", told, hint=f"chmod 600 {path}")


def _opened_header(path: Path, data: bytes, passphrase: Passphrase) -> tuple[_Header, _Lock, bytes]:
    try:
        parts = cbor.decode(data, max_bytes=KEYSTORE_BYTES)
        match parts:
            case [bytes() as header, bytes() as sealed, bytes() as digest] if digest == _digest(header, sealed):
                fields = cbor.decode(header, max_bytes=256)
            case _:
                raise _corrupt(path, "it is cut off or changed")
        match fields:
            case [bytes() as salt, bytes() as nonce, int() as passes, int() as memory] if len(salt) == _SALT_BYTES:
                cost = Cost(passes, memory)
                if len(nonce) != _NONCE_BYTES:
                    raise _corrupt(path, "its nonce has the wrong length")
            case _:
                raise _corrupt(path, "its header is wrong")
    except (Refused, ValueError) as error:
        if isinstance(error, Refused) and error.name == "keys-corrupt":
            raise
        raise _corrupt(path, "it is cut off or changed") from error
    return _Header(header, nonce), _Lock(salt, cost, passphrase.key(salt, cost)), sealed


def _digest(header: bytes, sealed: bytes) -> bytes:
    return hashlib.sha256(_LINE + header + sealed).digest()


def _keys_in(path: Path, plain: bytes) -> dict[str, SigningKey]:
    found = cbor.decode(plain, max_bytes=KEYSTORE_BYTES)
    keys: dict[str, SigningKey] = {}
    if not isinstance(found, dict) or len(found) > KEYSTORE_KEYS:
        raise _corrupt(path, "its content is no table of keys")
    for name, seed in found.items():
        if _NAME.fullmatch(name) is None or not isinstance(seed, bytes) or len(seed) != SEED_BYTES:
            raise _corrupt(path, "its table of keys holds something else")
        keys[name] = SigningKey(seed)
    return keys


def _replace(path: Path, data: bytes, *, fresh: bool) -> None:
    """Write a whole file that survives a crash; ``fresh`` never replaces one that has appeared meanwhile."""
    temporary = path.with_name(f".{path.name}.{bindings.randombytes(6).hex()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            os.link(temporary, path)
            os.unlink(temporary)
        else:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise BadInput("bad-key-name", f"{name[:64]!r} names no key: 1 to 64 lower-case letters, digits, inner dots or dashes")


def _corrupt(path: Path, why: str) -> Refused:
    return Refused("keys-corrupt", f"the key file {path} cannot be used: {why}", hint="restore it from a copy")
