/**
 * vectors FOLDER
 *
 * Runs the light client on all test vectors that concern it, and prints as JSON how many of each file came out as they say. Ends with 1
 * at the first that does not.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join as path } from "node:path";

import { hex, sha256, unhex } from "../src/bytes.ts";
import { begin, prove, readBundle } from "../src/bundle.ts";
import { type Value, decode, encode } from "../src/cbor.ts";
import { readGenesis } from "../src/genesis.ts";
import { certificateOf, checkCertificate, hashOf, headerOf } from "../src/headers.ts";
import { domainBytes, holds, keyNamed } from "../src/keys.ts";
import { Refused } from "../src/refused.ts";
import { checkProof, proofOf } from "../src/state.ts";
import { hashOf as hashOfValidators, quorum, validatorsOf } from "../src/validators.ts";

const LARGE = 1 << 20;
const folder = process.argv[2] ?? ".";
const counts: Record<string, number> = {};

function vectors(name: string): any {
  return JSON.parse(readFileSync(path(folder, name), "utf8"));
}

function each<T>(what: string, rows: T[], check: (row: T) => void): void {
  counts[what] = rows.length;
  for (const [number, row] of rows.entries()) {
    try {
      check(row);
    } catch (error) {
      throw new Error(`${what}, number ${number}: ${String(error)}`, { cause: error });
    }
  }
}

function refuses(named: string, work: () => unknown): void {
  assert.throws(work, (error) => error instanceof Refused && error.named === named, `not refused as ${named}`);
}

/** A value as the vectors write it in JSON. */
function jsonOf(value: Value): unknown {
  if (typeof value === "bigint") return { number: String(value) };
  if (typeof value === "number" && Math.abs(value) >= 2 ** 53) return { number: String(value) };
  if (value instanceof Uint8Array) return { hex: hex(value) };
  if (Array.isArray(value)) return value.map(jsonOf);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, inner]) => [key, jsonOf(inner)]));
  return value;
}

interface Row {
  [name: string]: string;
}

const cbor = vectors("cbor.json");
const isFloat = (value: { number?: string } | null): boolean => /[.en]/.test(value?.number ?? "");
each("cbor.values", cbor.values.filter((row: { value: { number?: string } | null }) => !isFloat(row.value)), (row: { value: unknown; cbor: string }) => {
  const value = decode(unhex(row.cbor), LARGE);
  assert.deepEqual(jsonOf(value), row.value);
  assert.equal(hex(encode(value)), row.cbor);
});
each("cbor.refused", cbor.refused, (row: Row) => refuses(row.refused!, () => decode(unhex(row.cbor!), LARGE)));

const keys = vectors("keys.json");
each("keys.keys", keys.keys, (row: Row) => {
  for (const name of [row.node!, row.multikey!]) assert.equal(hex(keyNamed(name)), row.public);
});
each("keys.refused", keys.refused, (row: Row) => refuses(row.refused!, () => keyNamed(row.name!)));
each("keys.agents", keys.agents, (row: Row) => {
  const text = new TextEncoder().encode(`meshos/agent-id/1\0${row.org}\0${row.name}`);
  assert.equal(`a-${hex(sha256(text)).slice(0, 16)}`, row.id);
});

const signing = vectors("signing.json");
type Fields = [string, unknown, number, number, string];
const exact = (value: unknown): number => (typeof value === "number" ? value : (BigInt((value as { number: string }).number) as unknown as number));
each("signing.signatures", signing.signatures, (row: Row & { fields: Fields }) => {
  const [protocol, epoch, view, height, phase] = row.fields as unknown as Fields;
  const domain = domainBytes({ genesisHash: unhex(row.genesis!), protocol, epoch: exact(epoch), view, height, phase });
  assert.equal(hex(domain), row.domain);
  assert.ok(holds(row.key!, domain, unhex(row.payload!), unhex(row.signature!)));
});
const [first] = signing.signatures;
each("signing.refused", signing.refused, (row: Row) => {
  assert.ok(!holds(first.key, unhex(first.domain), unhex(first.payload), unhex(row.signature!)));
});

const genesis = vectors("genesis.json").genesis;
const file = (name: string): Uint8Array => new Uint8Array(readFileSync(path(folder, name)));
const mesh = readGenesis(file(genesis[0].file));
each("genesis.genesis", genesis.slice(0, 1), (row: Row) => {
  assert.equal(hex(mesh.hash), row.hash);
  assert.equal(hex(mesh.hash).slice(0, 32), row.mesh_id);
});

const blocks = vectors("blocks.json");
each("blocks.validators", blocks.validators, (row: Row) => {
  const validators = validatorsOf(decode(unhex(row.cbor!), LARGE));
  assert.equal(hex(hashOfValidators(validators)), row.hash);
  assert.equal(quorum(validators.seats.length), row.q);
});
assert.deepEqual(validatorsOf(decode(unhex(blocks.validators[0].cbor), LARGE)), mesh.validators);
each("blocks.quorums", blocks.quorums, ([n, , q]: number[]) => assert.equal(quorum(n!), q));
each("blocks.headers", blocks.headers, (row: Row) => assert.equal(hex(hashOf(headerOf(decode(unhex(row.cbor!), 256)))), row.hash));
each("blocks.certificates", blocks.certificates, (row: Row) => {
  const [header, certificate, validators] = [row.header!, row.cbor!, row.validators!].map((text) => decode(unhex(text), LARGE));
  checkCertificate(unhex(blocks.genesis), headerOf(header!), certificateOf(certificate!), validatorsOf(validators!));
});

const tree = vectors("tree.json");
const value = (text: string | null | undefined): Uint8Array | null => (text === null || text === undefined ? null : unhex(text));
const checked = (row: Row): void => checkProof(unhex(row.root!), unhex(row.key!), value(row.value), proofOf(decode(unhex(row.proof!), LARGE)));
each("tree.proofs", tree.proofs, checked);
each("tree.refused", tree.refused, (row: Row) => refuses(row.refused!, () => checked(row)));

const bundles = vectors("bundles.json");
const proven = (text: string): object => {
  const { key, value: stored, height, timeMs, signers, validators } = prove(begin(mesh), readBundle(unhex(text))).proven;
  return { key: hex(key), value: stored === null ? null : hex(stored), height, time_ms: timeMs, epoch: validators.epoch, signers };
};
each("bundles.proves", bundles.proves, ({ what: _, bundle, ...said }: Row) => assert.deepEqual(proven(bundle!), said));
each("bundles.refused", bundles.refused, (row: Row) => refuses(row.refused!, () => proven(row.bundle!)));

console.log(JSON.stringify(counts));
