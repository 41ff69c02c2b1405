#!/usr/bin/env node
import { commands } from '@stickbreaking/train/commands';

process.exitCode = await commands['sb-train'](process.argv.slice(2));
