#!/usr/bin/env node
import { commands } from '@stickbreaking/board/commands';

// Loaded when somebody looks into a checkpoint.
const looker = async () => async (checkpoint, backend) => {
  const { AttentionLooker } = await import('@stickbreaking/eval');
  return await AttentionLooker.open(checkpoint, backend);
};

const webPage = async () => (await import('@stickbreaking/web')).readPage;

process.exitCode = await commands['sb-board'](process.argv.slice(2), { looker, webPage });
