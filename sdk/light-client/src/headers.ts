/** Headers, the certificates that prove them, and following the validators (wire.md, 5.2 to 5.4). */

import { type Bytes, equal, sha256, utf8 } from "./bytes.ts";
import { type Value, encode } from "./cbor.ts";
import { domainBytes, holds } from "./keys.ts";
import { Refused } from "./refused.ts";
import { bytes, hash, isOtherVersion, list, number, tuple } from "./shapes.ts";
import { type Seat, type Validators, hashOf as hashOfValidators, quorum, validatorsOf } from "./validators.ts";

const VERSION = 1;
const MAX_ROWS = 100;

export interface Header {
  height: number;
  epoch: number;
  timeMs: number;
  parent: Bytes;
  stateRoot: Bytes;
  requestsRoot: Bytes;
  nextValidators: Bytes;
}

export interface Certificate {
  view: number;
  rows: { index: number; signature: Bytes }[];
}

export interface Step {
  header: Header;
  certificate: Certificate;
  validators: Validators;
}

/** What is known for certain: who decides, and the last header that was checked (none: genesis). */
export interface Trusted {
  genesisHash: Bytes;
  validators: Validators;
  last?: Header;
}

export function hashOf(header: Header): Bytes {
  const hashes = [header.parent, header.stateRoot, header.requestsRoot, header.nextValidators];
  return sha256(utf8("meshos/header/1\0"), encode([VERSION, header.height, header.epoch, header.timeMs, ...hashes]));
}

// -- reading ---------------------------------------------------------------------------------------------------------

export function headerOf(value: Value): Header {
  const fields = Array.isArray(value) ? value : [];
  if (isOtherVersion(fields[0], VERSION)) throw new Refused("unknown-version", "a header of another version");
  const [version, ...rest] = tuple(value, 8) ?? [];
  const [height, epoch, timeMs] = [number(rest[0], 1), number(rest[1]), number(rest[2])];
  const [parent, stateRoot, requestsRoot, nextValidators] = [rest[3], rest[4], rest[5], rest[6]].map(hash);
  const known = version === VERSION && height !== undefined && epoch !== undefined && timeMs !== undefined;
  if (!known || !parent || !stateRoot || !requestsRoot || !nextValidators) {
    throw new Refused("header-malformed", "this is no header");
  }
  return { height, epoch, timeMs, parent, stateRoot, requestsRoot, nextValidators };
}

export function certificateOf(value: Value): Certificate {
  const [first, second] = tuple(value, 2) ?? [];
  const view = number(first);
  const rows = list(second, MAX_ROWS)?.map((row) => {
    const [index, signature] = tuple(row, 2) ?? [];
    return { index: number(index, 0, MAX_ROWS - 1), signature: bytes(signature, 64) };
  });
  const read: Certificate["rows"] = [];
  for (const { index, signature } of rows ?? []) {
    const before = read.at(-1)?.index ?? -1;
    if (index === undefined || signature === undefined || index <= before) throw noCertificate();
    read.push({ index, signature });
  }
  if (view === undefined || rows === undefined) throw noCertificate();
  return { view, rows: read };
}

function noCertificate(): Refused {
  return new Refused("quorum-malformed", "this is no certificate");
}

export function stepOf(value: Value): Step | undefined {
  const fields = tuple(value, 3);
  if (fields === undefined) return undefined;
  return { header: headerOf(fields[0]!), certificate: certificateOf(fields[1]!), validators: validatorsOf(fields[2]!) };
}

// -- checking --------------------------------------------------------------------------------------------------------

/** Throws unless a quorum of the set that is known has decided for this header, above all that was checked before. */
export function checkCounts(trusted: Trusted, header: Header, certificate: Certificate): void {
  const height = trusted.last?.height ?? 0;
  if (header.height <= height) throw new Refused("broken-chain", `header ${header.height} does not come after ${height}`);
  const parent = trusted.last === undefined ? trusted.genesisHash : hashOf(trusted.last);
  if (header.height === height + 1 && !equal(header.parent, parent)) {
    throw new Refused("broken-chain", `header ${header.height} has another parent than the header before it`);
  }
  if (header.epoch !== trusted.validators.epoch) {
    throw new Refused("epoch-skipped", `header ${header.height} is of epoch ${header.epoch}, not ${trusted.validators.epoch}`);
  }
  checkCertificate(trusted.genesisHash, header, certificate, trusted.validators);
}

/** Throws unless `certificate` proves `header`, whose epoch is that of `validators`. */
export function checkCertificate(genesisHash: Bytes, header: Header, certificate: Certificate, validators: Validators): void {
  const { seats, epoch } = validators;
  const needed = quorum(seats.length);
  if (certificate.rows.length < needed) throw new Refused("no-quorum", `${certificate.rows.length} signatures, ${needed} are needed`);
  const voters = certificate.rows.map((row) => ({ seat: voter(seats, row.index), signature: row.signature }));
  const domain = domainBytes({ genesisHash, protocol: "pbft", epoch, view: certificate.view, height: header.height, phase: "commit" });
  const payload = hashOf(header);
  for (const { seat, signature } of voters) {
    if (!signed(seat, domain, payload, signature)) throw new Refused("bad-signature", `the signature of ${seat.org} does not hold`);
  }
}

function voter(seats: Seat[], index: number): Seat {
  const seat = seats[index];
  if (seat === undefined) throw new Refused("unknown-validator", `there is no seat ${index}`);
  if (seat.suspended) throw new Refused("validator-suspended", `${seat.org} is suspended`);
  return seat;
}

/** A key that is none signs nothing. */
function signed(seat: Seat, domain: Bytes, payload: Bytes, signature: Bytes): boolean {
  try {
    return holds(seat.key, domain, payload, signature);
  } catch (error) {
    if (error instanceof Refused) return false;
    throw error;
  }
}

/** What is known after this step. */
export function follow(trusted: Trusted, step: Step): Trusted {
  checkCounts(trusted, step.header, step.certificate);
  if (!equal(step.header.nextValidators, hashOfValidators(step.validators))) {
    throw new Refused("broken-chain", `header ${step.header.height} names other validators than these`);
  }
  if (step.validators.epoch !== trusted.validators.epoch + 1) {
    throw new Refused("epoch-skipped", `epoch ${step.validators.epoch} does not come after ${trusted.validators.epoch}`);
  }
  return { genesisHash: trusted.genesisHash, validators: step.validators, last: step.header };
}
