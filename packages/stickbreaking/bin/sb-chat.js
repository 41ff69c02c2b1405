#!/usr/bin/env node
import { commands } from '@stickbreaking/serve/commands';

process.exitCode = await commands['sb-chat'](process.argv.slice(2));
