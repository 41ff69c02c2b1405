import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT } from '@stickbreaking/base';
import { expect, it } from 'vitest';
import { runCommand } from './run_command.js';

it('a command that fails says how the quickstart goes on: as it is, or once what was refused is mended', async () => {
  const run = mkdtempSync(join(tmpdir(), 'quickstart-'));
  const output = { ...process.stderr, fd: 2, write: () => true };
  const generate = (checkpoint: string) =>
    runCommand('sb-generate', ['--checkpoint', checkpoint, '--prompt', 'a', '--backend', 'cpu'], { output });
  await expect(generate(join(run, 'none'))).rejects.toMatchObject({
    message:
      'The quickstart stopped: sb-generate ended with 1. Run it again to go on from here, or remove quickstart/ to begin anew.',
    exitCode: EXIT.mistake,
  });
  mkdirSync(join(run, 'checkpoints/step-00000001'), { recursive: true });
  await expect(generate(run)).rejects.toMatchObject({
    message:
      'The quickstart stopped: sb-generate ended with 4. Do what it says above, then run the quickstart again to go on from ' +
      'here, or remove quickstart/ to begin anew.',
    exitCode: EXIT.refused,
  });
  rmSync(run, { recursive: true });
});

it('shows the command without what is of no use by hand', async () => {
  const shown: string[] = [];
  const output = { fd: 2, write: (text: string) => shown.push(text) > 0 };
  const printed = await runCommand('sb-generate', ['--help'], {
    output: output as never,
    capture: true,
    own: ['--version'],
  });
  expect(shown[0]).toBe('$ npx sb-generate --help\n');
  expect(printed).not.toBe('');
});
