/** Who decides (wire.md, 5.1): one seat an organisation, and how many of them are a quorum. */

import { type Bytes, compare, sha256, utf8 } from "./bytes.ts";
import { type Value, encode } from "./cbor.ts";
import { Refused } from "./refused.ts";
import { list, number, text, tuple } from "./shapes.ts";

const MAX_SEATS = 100;
const NAME_CHARS = 128;

export interface Seat {
  org: string;
  node: string;
  key: string;
  suspended: boolean;
}

export interface Validators {
  epoch: number;
  seats: Seat[];
}

/** q of `n` seats. */
export function quorum(n: number): number {
  return Math.floor((n + Math.floor((n - 1) / 3) + 2) / 2);
}

export function hashOf(validators: Validators): Bytes {
  const rows = validators.seats.map((seat): Value => [seat.org, seat.node, seat.key, seat.suspended]);
  return sha256(utf8("meshos/validators/1\0"), encode([validators.epoch, rows]));
}

/** The set that a decoded value is. */
export function validatorsOf(value: Value): Validators {
  const [first, second] = tuple(value, 2) ?? [];
  const epoch = number(first);
  const rows = list(second, MAX_SEATS);
  if (epoch === undefined || rows === undefined) throw malformed();
  return { epoch, seats: checked(rows.map(seatOf)) };
}

/** The seats, if they may be those of a set. */
export function checked(seats: Seat[]): Seat[] {
  const ascending = seats.every((seat, at) => at === 0 || compare(utf8(seats[at - 1]!.org), utf8(seat.org)) < 0);
  const once = (names: string[]): boolean => new Set(names).size === seats.length;
  const distinct = once(seats.map((seat) => seat.node)) && once(seats.map((seat) => seat.key));
  if (seats.length < 1 || seats.length > MAX_SEATS || !ascending || !distinct) throw malformed();
  return seats;
}

function seatOf(row: Value): Seat {
  const [first, second, third, suspended] = tuple(row, 4) ?? [];
  const [org, node, key] = [first, second, third].map((name) => text(name, NAME_CHARS));
  if (org === undefined || node === undefined || key === undefined || typeof suspended !== "boolean") throw malformed();
  return { org, node, key, suspended };
}

function malformed(): Refused {
  return new Refused("validators-malformed", "this is no set of validators");
}
