// The tests that mutants are held to: those of model and train that run on the sources.
import { defineConfig, mergeConfig } from 'vitest/config';
import base from '../../vitest.config.js';

const config = mergeConfig(base, defineConfig({ test: { testTimeout: 30_000 } }));
config.test!.include = ['packages/{model,train}/src/**/*.test.ts'];
config.test!.exclude = ['packages/train/src/command.test.ts'];
export default config;
