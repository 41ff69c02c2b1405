#!/usr/bin/env node
import { main } from '../dist/serve_cli.js';

process.exitCode = await main(process.argv.slice(2));
