/** The state's tree, and proofs of what stands in it (wire.md, 5.5). */

import { type Bytes, compare, equal, join, sha256 } from "./bytes.ts";
import { type Value } from "./cbor.ts";
import { Refused } from "./refused.ts";
import { bytes, hash, list, tuple } from "./shapes.ts";

const MAX_LEVELS = 64;
const MAX_ENTRIES = 8;
const MAX_KEY = 128;
const LEVEL_BYTES = 6 * 32;
const LEAF = Uint8Array.of(0);
const PAGE = Uint8Array.of(1);

export interface Proof {
  levels: Bytes[];
  entries: { key: Bytes; valueHash: Bytes }[];
}

export function proofOf(value: Value): Proof {
  const [first, second] = tuple(value, 2) ?? [];
  const levels = list(first, MAX_LEVELS)?.map((level) => bytes(level, LEVEL_BYTES));
  const rows = list(second, MAX_ENTRIES)?.map((row) => {
    const [key, valueHash] = tuple(row, 2) ?? [];
    return { key: bytes(key, 1, MAX_KEY), valueHash: hash(valueHash) };
  });
  if (levels === undefined || rows === undefined) throw bad("it is not well formed");
  const proof: Proof = { levels: [], entries: [] };
  for (const level of levels) {
    if (level === undefined) throw bad("a level of it is none");
    proof.levels.push(level);
  }
  for (const { key, valueHash } of rows) {
    const before = proof.entries.at(-1)?.key;
    if (key === undefined || valueHash === undefined || (before && compare(before, key) >= 0)) throw bad("its leaf is none");
    proof.entries.push({ key, valueHash });
  }
  return proof;
}

/** Throws unless the state with this root has `value` under `key`; null: nothing. */
export function checkProof(root: Bytes, key: Bytes, value: Bytes | null, proof: Proof): void {
  const position = sha256(key);
  let found = leafHash(proof);
  for (let depth = proof.levels.length - 1; depth >= 0; depth--) {
    const digit = depth % 2 === 0 ? position[depth >> 1]! >> 4 : position[depth >> 1]! & 15;
    const level = proof.levels[depth]!;
    const quad = sha256(PAGE, putIn(level.subarray(0, 96), found, digit & 3));
    found = sha256(PAGE, putIn(level.subarray(96), quad, digit >> 2));
  }
  if (!equal(found, root)) throw bad("it leads to another root");
  const entry = proof.entries.find((one) => equal(one.key, key));
  const holds = value === null ? entry === undefined : entry !== undefined && equal(entry.valueHash, sha256(value));
  if (!holds) throw bad("the state has another value under this key");
}

function leafHash(proof: Proof): Bytes {
  if (proof.entries.length === 0) return new Uint8Array(32);
  return sha256(LEAF, ...proof.entries.flatMap(({ key, valueHash }) => [Uint8Array.of(key.length), key, valueHash]));
}

/** Four hashes: `three`, and `one` at `place` of them. */
function putIn(three: Bytes, one: Bytes, place: number): Bytes {
  return join(three.subarray(0, 32 * place), one, three.subarray(32 * place));
}

function bad(why: string): Refused {
  return new Refused("bad-proof", `this proves nothing: ${why}`);
}
