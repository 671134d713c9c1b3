/** What everything begins with (wire.md, 4): the hash of genesis.json, and the validators that it names. */

import { type Bytes, sha256, utf8 } from "./bytes.ts";
import { type Value, encode } from "./cbor.ts";
import { Refused } from "./refused.ts";
import { type Seat, type Validators, checked } from "./validators.ts";

const MAX_BYTES = 4 * 1024 * 1024;

export interface Genesis {
  hash: Bytes;
  mesh: string;
  /** The set of epoch 0. */
  validators: Validators;
}

/** The genesis in a file; whether it is the right one, its hash says. */
export function readGenesis(file: Bytes): Genesis {
  if (file.length > MAX_BYTES) throw malformed(`the file has ${file.length} bytes`);
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(file));
  } catch {
    throw malformed("the file is no JSON");
  }
  const { mesh, orgs } = (document ?? {}) as { mesh?: unknown; orgs?: unknown };
  if (typeof mesh !== "string" || !Array.isArray(orgs)) throw malformed("it names no mesh, or no organisations");
  const hash = sha256(utf8("meshos/genesis/1\0"), encode(valueOf(document)));
  return { hash, mesh, validators: { epoch: 0, seats: checked(orgs.flatMap(seatOf)) } };
}

function seatOf(org: unknown): Seat[] {
  const { did, validator } = (org ?? {}) as { did?: unknown; validator?: unknown };
  if (validator === null) return [];
  const { node, key } = (validator ?? {}) as { node?: unknown; key?: unknown };
  if (typeof did !== "string" || typeof node !== "string" || typeof key !== "string") throw malformed("an organisation in it is none");
  return [{ org: did, node, key, suspended: false }];
}

/** A JSON document as CBOR has it. */
function valueOf(json: unknown): Value {
  if (json === null || typeof json === "boolean" || typeof json === "string") return json;
  if (typeof json === "number") {
    if (!Number.isSafeInteger(json)) throw malformed("a number in it is no whole number");
    return json;
  }
  if (Array.isArray(json)) return json.map(valueOf);
  return new Map(Object.entries(json as object).map(([key, inner]) => [key, valueOf(inner)]));
}

function malformed(why: string): Refused {
  return new Refused("genesis-malformed", `this is no genesis: ${why}`);
}
