// The tests that mutants are held to: those of model and train that run on the sources, or what MUTATE_TESTS names.
import { defineConfig, mergeConfig } from 'vitest/config';
import base from '../../vitest.config.js';

const config = mergeConfig(base, defineConfig({ test: { testTimeout: 30_000 } }));
config.test!.projects = undefined; // a process for every file
config.test!.include = process.env.MUTATE_TESTS?.split(',') ?? ['packages/{model,train}/src/**/*.test.ts'];
// These run the build, in which nothing is mutated.
config.test!.exclude = ['packages/train/src/{command,evaluation,parallel/{launch,processes,watchdog}}.test.ts'];
export default config;
