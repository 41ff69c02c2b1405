#!/usr/bin/env node
import { main } from '../dist/board_cli.js';

process.exitCode = await main(process.argv.slice(2));
