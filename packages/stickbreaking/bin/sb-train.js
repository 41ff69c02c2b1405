#!/usr/bin/env node
import { commands } from '@stickbreaking/train/commands';

// Loaded only for a run that scores tasks.
async function taskScorer() {
  const { Evaluator } = await import('@stickbreaking/eval');
  return (options) => Evaluator.open(options);
}

process.exitCode = await commands['sb-train'](process.argv.slice(2), { taskScorer });
