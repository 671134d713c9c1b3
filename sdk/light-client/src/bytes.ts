/** Bytes: joined, compared, hashed. */

import { createHash } from "node:crypto";

export type Bytes = Uint8Array;

const encoder = new TextEncoder();

export function utf8(text: string): Bytes {
  return encoder.encode(text);
}

export function join(...parts: Bytes[]): Bytes {
  return new Uint8Array(Buffer.concat(parts));
}

export function sha256(...parts: Bytes[]): Bytes {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

export function equal(one: Bytes, other: Bytes): boolean {
  return compare(one, other) === 0;
}

/** Below zero, zero or above it, as `one` comes before `other`, byte by byte. */
export function compare(one: Bytes, other: Bytes): number {
  return Buffer.compare(one, other);
}

export function hex(bytes: Bytes): string {
  return Buffer.from(bytes).toString("hex");
}

export function unhex(text: string): Bytes {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new RangeError("these are no hexadecimal digits");
  return new Uint8Array(Buffer.from(text, "hex"));
}
