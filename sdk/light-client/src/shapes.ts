/** Taking decoded values apart: each reader gives what it is called after, or undefined. */

import { type Bytes } from "./bytes.ts";
import { type Value } from "./cbor.ts";

export const MAX_NUMBER = 2 ** 53;

export function number(value: Value | undefined, least = 0, most = MAX_NUMBER): number | undefined {
  return typeof value === "number" && least <= value && value <= most ? value : undefined;
}

export function bytes(value: Value | undefined, least: number, most = least): Bytes | undefined {
  return value instanceof Uint8Array && least <= value.length && value.length <= most ? value : undefined;
}

export function hash(value: Value | undefined): Bytes | undefined {
  return bytes(value, 32);
}

/** A text of at most `most` characters, counted as the specification does: by code points. */
export function text(value: Value | undefined, most: number): string | undefined {
  return typeof value === "string" && [...value].length <= most ? value : undefined;
}

/** Whether this is the number of a version that is not `known`; what is no whole number is no version at all. */
export function isOtherVersion(value: Value | undefined, known: number): boolean {
  return typeof value === "bigint" || (typeof value === "number" && value !== known);
}

/** A list of exactly `length` items. */
export function tuple(value: Value | undefined, length: number): Value[] | undefined {
  return Array.isArray(value) && value.length === length ? value : undefined;
}

export function list(value: Value | undefined, most: number): Value[] | undefined {
  return Array.isArray(value) && value.length <= most ? value : undefined;
}
