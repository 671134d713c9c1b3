#!/usr/bin/env node
/**
 * verify GENESIS BUNDLE [GENESIS_HASH]
 *
 * Prints as JSON what a bundle proves, and ends with 0; or why it proves nothing, and ends with 1. With GENESIS_HASH (64 hex digits, or the
 * first 16 or more of them) the genesis has to have it.
 */

import { readFileSync } from "node:fs";

import { hex } from "./bytes.ts";
import { begin, prove, readBundle } from "./bundle.ts";
import { readGenesis } from "./genesis.ts";
import { Refused } from "./refused.ts";

function main([genesisFile, bundleFile, wanted]: string[]): number {
  if (genesisFile === undefined || bundleFile === undefined) {
    console.error("verify GENESIS BUNDLE [GENESIS_HASH]");
    return 2;
  }
  try {
    const genesis = readGenesis(new Uint8Array(readFileSync(genesisFile)));
    const found = hex(genesis.hash);
    if (wanted !== undefined && (wanted.length < 16 || !found.startsWith(wanted.toLowerCase()))) {
      throw new Refused("wrong-genesis", `this genesis has the hash ${found}`);
    }
    const { proven } = prove(begin(genesis), readBundle(new Uint8Array(readFileSync(bundleFile))));
    const { height, timeMs, signers, validators } = proven;
    const value = proven.value === null ? null : hex(proven.value);
    const said = { ok: true, genesis: found, key: hex(proven.key), value, height, time_ms: timeMs, epoch: validators.epoch, signers };
    console.log(JSON.stringify(said));
    return 0;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    console.log(JSON.stringify({ ok: false, name: error.named, sentence: error.message }));
    return 1;
  }
}

process.exitCode = main(process.argv.slice(2));
