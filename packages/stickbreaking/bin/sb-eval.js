#!/usr/bin/env node
import { commands } from '@stickbreaking/eval/commands';

process.exitCode = await commands['sb-eval'](process.argv.slice(2));
