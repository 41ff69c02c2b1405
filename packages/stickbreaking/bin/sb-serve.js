#!/usr/bin/env node
import { commands } from '@stickbreaking/serve/commands';

process.exitCode = await commands['sb-serve'](process.argv.slice(2));
