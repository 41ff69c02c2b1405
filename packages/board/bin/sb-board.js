#!/usr/bin/env node
import { main } from '../dist/board_cli.js';

// Not needed for anything but to look into checkpoints, and loaded when somebody does: an optional peer dependency.
async function looker() {
  const { resolve } = import.meta;
  try {
    resolve('@stickbreaking/eval');
  } catch {
    return undefined;
  }
  return async (checkpoint, backend) => {
    const { AttentionLooker } = await import('@stickbreaking/eval');
    return await AttentionLooker.open(checkpoint, backend);
  };
}

process.exitCode = await main(process.argv.slice(2), { looker });
