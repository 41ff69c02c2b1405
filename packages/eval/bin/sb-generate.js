#!/usr/bin/env node
import { main } from '../dist/generate_cli.js';

process.exitCode = await main(process.argv.slice(2));
