/** A bundle: all that proves one key of the ledger to who has genesis (wire.md, 5.6). */

import { type Bytes, equal } from "./bytes.ts";
import { type Value, decode } from "./cbor.ts";
import { type Genesis } from "./genesis.ts";
import { type Certificate, type Header, type Step, type Trusted, certificateOf, checkCounts, follow, headerOf, stepOf } from "./headers.ts";
import { Refused } from "./refused.ts";
import { bytes, hash, isOtherVersion, list, tuple } from "./shapes.ts";
import { type Proof, checkProof, proofOf } from "./state.ts";
import { type Validators } from "./validators.ts";

const VERSION = 1;
const MAX_BYTES = 16 * 1024 * 1024;
const MAX_STEPS = 1024;
const MAX_KEY = 128;
const MAX_VALUE = 24 * 1024;

export interface Bundle {
  genesisHash: Bytes;
  steps: Step[];
  header: Header;
  certificate: Certificate;
  key: Bytes;
  value: Bytes | null;
  proof: Proof;
}

/** That `key` had `value` (null: was not there) after block `height`, at the ledger time `timeMs`. */
export interface Proven {
  key: Bytes;
  value: Bytes | null;
  height: number;
  timeMs: number;
  /** The organisations whose signatures were checked on the header. */
  signers: string[];
  validators: Validators;
}

export function readBundle(data: Bytes): Bundle {
  const value = decode(data, MAX_BYTES);
  if (Array.isArray(value) && isOtherVersion(value[0], VERSION)) throw new Refused("unknown-version", "a bundle of another version");
  const fields = tuple(value, 8);
  if (fields === undefined || fields[0] !== VERSION) throw malformed();
  const genesisHash = hash(fields[1]);
  const rows = list(fields[2], MAX_STEPS);
  const key = bytes(fields[5], 1, MAX_KEY);
  const stored = fields[6] === null ? null : bytes(fields[6], 0, MAX_VALUE);
  if (genesisHash === undefined || rows === undefined || key === undefined || stored === undefined) throw malformed();
  const steps = rows.map((row: Value): Step => {
    const step = stepOf(row);
    if (step === undefined) throw malformed();
    return step;
  });
  const [header, certificate, proof] = [headerOf(fields[3]!), certificateOf(fields[4]!), proofOf(fields[7]!)];
  return { genesisHash, steps, header, certificate, key, value: stored, proof };
}

/** What genesis alone gives. */
export function begin(genesis: Genesis): Trusted {
  return { genesisHash: genesis.hash, validators: genesis.validators };
}

/** What `bundle` proves to who knows `trusted`, and what is known then: to go on from. */
export function prove(trusted: Trusted, bundle: Bundle): { proven: Proven; trusted: Trusted } {
  if (!equal(bundle.genesisHash, trusted.genesisHash)) throw new Refused("wrong-genesis", "this is about another mesh");
  const after = bundle.steps.reduce(follow, trusted);
  const { header, certificate, key, value } = bundle;
  checkCounts(after, header, certificate);
  checkProof(header.stateRoot, key, value, bundle.proof);
  const signers = certificate.rows.map((row) => after.validators.seats[row.index]!.org);
  const proven = { key, value, height: header.height - 1, timeMs: header.timeMs, signers, validators: after.validators };
  return { proven, trusted: after };
}

function malformed(): Refused {
  return new Refused("bundle-malformed", "this is no proof of the ledger's state");
}
