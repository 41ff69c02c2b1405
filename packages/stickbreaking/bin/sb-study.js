#!/usr/bin/env node
import { commands } from '@stickbreaking/study/commands';

process.exitCode = await commands['sb-study'](process.argv.slice(2));
