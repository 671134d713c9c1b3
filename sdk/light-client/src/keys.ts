/** Ed25519 keys, their names, and signatures in a domain (wire.md, 2 and 3). */

import { createPublicKey, verify as verifySignature } from "node:crypto";

import { type Bytes, equal, join, utf8 } from "./bytes.ts";
import { type Value, encode } from "./cbor.ts";
import { Refused } from "./refused.ts";

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const MULTIKEY = /^z6Mk[1-9A-HJ-NP-Za-km-z]{44}$/;
const NODE = /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/;
const MULTIKEY_PREFIX = Uint8Array.of(0xed, 0x01);
const NODE_PREFIX = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20);

/** The public key that a Multikey or a node id names. */
export function keyNamed(name: string): Bytes {
  const prefix = MULTIKEY.test(name) ? MULTIKEY_PREFIX : NODE.test(name) ? NODE_PREFIX : undefined;
  if (prefix === undefined) throw badKey(name);
  const data = base58(prefix === MULTIKEY_PREFIX ? name.slice(1) : name);
  const key = data.slice(prefix.length);
  if (key.length !== 32 || !equal(data.subarray(0, prefix.length), prefix) || !isKey(key)) throw badKey(name);
  return key;
}

function badKey(name: string): Refused {
  return new Refused("bad-public-key", `${name.slice(0, 80)} names no key`);
}

function base58(text: string): Bytes {
  let number = 0n;
  for (const letter of text) number = number * 58n + BigInt(ALPHABET.indexOf(letter));
  const zeros = text.length - text.replace(/^1+/, "").length;
  const digits = number === 0n ? "" : number.toString(16);
  return join(new Uint8Array(zeros), new Uint8Array(Buffer.from(digits.length % 2 ? `0${digits}` : digits, "hex")));
}

// -- signatures ------------------------------------------------------------------------------------------------------

export interface Domain {
  genesisHash: Bytes;
  protocol: string;
  epoch: number;
  view: number;
  height: number;
  phase: string;
}

/** What stands before the payload in what is signed. */
export function domainBytes(domain: Domain): Bytes {
  const fields: Value = [domain.genesisHash, domain.protocol, domain.epoch, domain.view, domain.height, domain.phase];
  return join(utf8("meshos/signed/1\0"), encode(fields));
}

const NEUTRAL = Uint8Array.of(1, ...new Uint8Array(31));

/** Whether the key that `name` names has signed `payload` for `domain`. */
export function holds(name: string, domain: Bytes, payload: Bytes, signature: Bytes): boolean {
  if (signature.length !== 64 || equal(signature.subarray(0, 32), NEUTRAL)) return false;
  const x = Buffer.from(keyNamed(name)).toString("base64url");
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  return verifySignature(null, join(domain, payload), key, signature);
}

// -- the curve -------------------------------------------------------------------------------------------------------

const P = 2n ** 255n - 19n;
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const D = mod(-121665n * power(121666n, P - 2n));

type Point = [bigint, bigint, bigint]; // X/Z, Y/Z

function mod(number: bigint): bigint {
  const rest = number % P;
  return rest < 0n ? rest + P : rest;
}

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  for (let square = mod(base); exponent > 0n; exponent >>= 1n, square = mod(square * square)) {
    if (exponent & 1n) result = mod(result * square);
  }
  return result;
}

/** The complete addition of twisted Edwards curves, projective (Bernstein et al. 2008, section 6). */
function add([x1, y1, z1]: Point, [x2, y2, z2]: Point): Point {
  const a = mod(z1 * z2);
  const b = mod(a * a);
  const [c, d] = [mod(x1 * x2), mod(y1 * y2)];
  const e = mod(D * c * d);
  const [f, g] = [mod(b - e), mod(b + e)];
  return [mod(a * f * ((x1 + y1) * (x2 + y2) - c - d)), mod(a * g * (d + c)), mod(f * g)];
}

function isNeutral([x, y, z]: Point): boolean {
  return x === 0n && y === z;
}

/** Whether these bytes are a canonical point of the prime order, and not its neutral element. */
function isKey(key: Bytes): boolean {
  const number = BigInt(`0x${Buffer.from(key).reverse().toString("hex")}`);
  const y = number & ((1n << 255n) - 1n);
  if (y >= P) return false;
  const square = mod((y * y - 1n) * power(D * y * y + 1n, P - 2n));
  let x = power(square, (P + 3n) / 8n);
  if (mod(x * x) !== square) x = mod(x * power(2n, (P - 1n) / 4n));
  if (mod(x * x) !== square) return false;
  const odd = number >> 255n === 1n;
  if (x === 0n && odd) return false;
  if ((x & 1n) === 1n !== odd) x = P - x;
  const point: Point = [x, y, 1n];
  let [sum, double]: [Point, Point] = [[0n, 1n, 1n], point];
  for (let rest = ORDER; rest > 0n; rest >>= 1n, double = add(double, double)) {
    if (rest & 1n) sum = add(sum, double);
  }
  return isNeutral(sum) && !isNeutral(point);
}
