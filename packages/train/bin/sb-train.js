#!/usr/bin/env node
import { main } from '../dist/cli.js';

// Loaded only for a run that scores tasks, and not needed for any other: an optional peer dependency.
async function taskScorer() {
  try {
    const { Evaluator } = await import('@stickbreaking/eval');
    return (options) => Evaluator.open(options);
  } catch (error) {
    if (error.code === 'ERR_MODULE_NOT_FOUND' && error.message.includes('@stickbreaking/eval')) return undefined;
    throw error;
  }
}

process.exitCode = await main(process.argv.slice(2), { taskScorer });
