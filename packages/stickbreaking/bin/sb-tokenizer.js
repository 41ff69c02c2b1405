#!/usr/bin/env node
import { commands } from '@stickbreaking/data/commands';

process.exitCode = await commands['sb-tokenizer'](process.argv.slice(2));
