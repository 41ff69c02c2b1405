#!/usr/bin/env node
import { commands } from '@stickbreaking/board/commands';

process.exitCode = await commands['sb-report'](process.argv.slice(2));
