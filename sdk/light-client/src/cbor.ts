/**
 * Canonical CBOR (wire.md, 1): one encoding for each value, and nothing else is read.
 *
 * Floating-point numbers are left out: a light client meets none.
 */

import { type Bytes, compare, join, utf8 } from "./bytes.ts";
import { Refused } from "./refused.ts";

/** Whole numbers from -2**53 to 2**53 are `number`, others `bigint`. */
export type Value = null | boolean | number | bigint | string | Bytes | Value[] | Map<string, Value>;

const MOST = 2n ** 53n;
const MAX_DEPTH = 16;
const SIMPLE = new Map<number, null | boolean>([[0xf4, false], [0xf5, true], [0xf6, null]]);
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function bad(why: string): Refused {
  return new Refused("bad-encoding", `this is no canonical CBOR: ${why}`);
}

/** The value of `data`, all of it. */
export function decode(data: Bytes, maxBytes: number): Value {
  if (data.length > maxBytes) throw new Refused("too-large", `${data.length} bytes, at most ${maxBytes} are read`);
  const reader = new Reader(data);
  const value = reader.value(0);
  if (reader.at !== data.length) throw bad("there is something behind it");
  return value;
}

class Reader {
  at = 0;
  private readonly data: Bytes;

  constructor(data: Bytes) {
    this.data = data;
  }

  value(depth: number): Value {
    const first = this.take(1)[0]!;
    const simple = SIMPLE.get(first);
    if (simple !== undefined) return simple;
    const major = first >> 5;
    if (major > 5) throw bad("a tag, a floating-point number, or something that is no plain value");
    const argument = this.argument(first & 31);
    if (major === 0) return small(argument);
    if (major === 1) return small(-1n - argument);
    if (argument > BigInt(this.data.length)) throw bad("it is cut off");
    const length = Number(argument);
    if (major === 2) return this.take(length).slice();
    if (major === 3) return this.text(length);
    if (depth >= MAX_DEPTH && length > 0) throw bad("too many lists or maps inside one another");
    return major === 4 ? Array.from({ length }, () => this.value(depth + 1)) : this.map(length, depth);
  }

  private map(length: number, depth: number): Map<string, Value> {
    const found = new Map<string, Value>();
    let before: Bytes | undefined;
    for (let index = 0; index < length; index++) {
      const start = this.at;
      const key = this.value(depth + 1);
      if (typeof key !== "string") throw bad("a key that is no text");
      const encoded = this.data.subarray(start, this.at);
      if (before !== undefined && compare(before, encoded) >= 0) throw bad("keys out of order, or a key twice");
      before = encoded;
      found.set(key, this.value(depth + 1));
    }
    return found;
  }

  private text(length: number): string {
    try {
      return utf8Decoder.decode(this.take(length));
    } catch (error) {
      if (error instanceof Refused) throw error;
      throw bad("a text that is no UTF-8");
    }
  }

  /** A number or length in its shortest form. */
  private argument(info: number): bigint {
    if (info < 24) return BigInt(info);
    if (info > 27) throw bad("an indefinite length, or one that is reserved");
    const size = 1 << (info - 24);
    let number = 0n;
    for (const byte of this.take(size)) number = (number << 8n) | BigInt(byte);
    const least = size === 1 ? 24n : 1n << BigInt(4 * size);
    if (number < least) throw bad("a number that is not in its shortest form");
    return number;
  }

  private take(length: number): Bytes {
    if (this.at + length > this.data.length) throw bad("it is cut off");
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }
}

function small(number: bigint): number | bigint {
  return -MOST <= number && number <= MOST ? Number(number) : number;
}

/** The bytes of `value`. */
export function encode(value: Value): Bytes {
  if (value === null) return Uint8Array.of(0xf6);
  if (typeof value === "boolean") return Uint8Array.of(value ? 0xf5 : 0xf4);
  if (typeof value === "number" || typeof value === "bigint") {
    const number = BigInt(value);
    return number >= 0n ? head(0, number) : head(1, -1n - number);
  }
  if (typeof value === "string") {
    const text = utf8(value);
    return join(head(3, BigInt(text.length)), text);
  }
  if (value instanceof Uint8Array) return join(head(2, BigInt(value.length)), value);
  if (Array.isArray(value)) return join(head(4, BigInt(value.length)), ...value.map(encode));
  const rows = [...value].map(([key, inner]) => ({ key: encode(key), inner: encode(inner) }));
  rows.sort((one, other) => compare(one.key, other.key));
  return join(head(5, BigInt(rows.length)), ...rows.flatMap((row) => [row.key, row.inner]));
}

function head(major: number, argument: bigint): Bytes {
  const type = major << 5;
  if (argument < 24n) return Uint8Array.of(type | Number(argument));
  const size = argument < 1n << 8n ? 1 : argument < 1n << 16n ? 2 : argument < 1n << 32n ? 4 : 8;
  const bytes = new Uint8Array(1 + size);
  bytes[0] = type | (24 + Math.log2(size));
  for (let at = size; at > 0; at--, argument >>= 8n) bytes[at] = Number(argument & 255n);
  return bytes;
}
