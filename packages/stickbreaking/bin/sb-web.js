#!/usr/bin/env node
import { commands } from '@stickbreaking/web/commands';

process.exitCode = await commands['sb-web'](process.argv.slice(2));
