#!/usr/bin/env node
import { main } from '../dist/board_cli.js';

// Optional peer dependencies: one is needed to look into checkpoints, and loaded when somebody does, the other to run
// them in the browser.
function isInstalled(name) {
  const { resolve } = import.meta;
  try {
    resolve(name);
    return true;
  } catch {
    return false;
  }
}

async function looker() {
  if (!isInstalled('@stickbreaking/eval')) return undefined;
  return async (checkpoint, backend) => {
    const { AttentionLooker } = await import('@stickbreaking/eval');
    return await AttentionLooker.open(checkpoint, backend);
  };
}

async function webPage() {
  return isInstalled('@stickbreaking/web') ? (await import('@stickbreaking/web')).readPage : undefined;
}

process.exitCode = await main(process.argv.slice(2), { looker, webPage });
