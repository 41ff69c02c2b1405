#!/usr/bin/env node
import { commands } from '@stickbreaking/board/commands';

process.exitCode = await commands['sb-board'](process.argv.slice(2));
