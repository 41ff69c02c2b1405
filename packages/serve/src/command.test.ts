/** sb-serve and sb-chat as a user runs them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { smallModel } from './small_model.fixture.js';

let folder: string;
beforeAll(async () => {
  folder = await smallModel();
});
afterAll(() => rmSync(folder, { recursive: true }));

function start(command: 'sb-serve' | 'sb-chat', ...args: string[]) {
  const bin = fileURLToPath(new URL(`../bin/${command}.js`, import.meta.url));
  const all = [bin, '--checkpoint', join(folder, 'model'), '--backend', 'cpu', ...args];
  const child = spawn(process.execPath, all, { stdio: 'pipe' });
  const written = { stdout: '', stderr: '' };
  child.stdout.on('data', (data) => (written.stdout += data));
  child.stderr.on('data', (data) => (written.stderr += data));
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, ...written }));
  return { child, written, ended };
}

/** What a command that ends by itself wrote. */
function run(command: 'sb-serve' | 'sb-chat', args: string[], input = '') {
  const { child, ended } = start(command, ...args);
  child.stdin.end(input);
  return ended;
}

async function address({ stdout }: { stdout: string }, child: ChildProcess): Promise<string> {
  while (!stdout.includes('\n')) {
    const [data] = (await once(child.stdout!, 'data')) as [Buffer];
    stdout += data;
  }
  return /http:\S+/.exec(stdout)![0];
}

describe('sb-serve', () => {
  it('serves on this machine until it is told to end, also in the middle of an answer', async () => {
    const { child, written, ended } = start('sb-serve', '--port', '0', '--model-name', 'small');
    const url = await address(written, child);
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/v1$/);
    const body = JSON.stringify({ prompt: 'The', max_tokens: 4000, stream: true });
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(`${url}/completions`, { method: 'POST', headers, body });
    const reader = answer.body!.getReader();
    expect(Buffer.from((await reader.read()).value!).toString()).toMatch(/^data: \{"id":"cmpl-/);
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ code: 143, stderr: '' });
    await reader.cancel().catch(() => {});
  });

  it('says in one line why it cannot', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as { port: number };
    const results = await Promise.all([
      run('sb-serve', ['--port', String(port)]),
      run('sb-serve', ['--port', '70000']),
      run('sb-serve', ['--host', '203.0.113.7']),
      run('sb-serve', ['--chat-template', '/nowhere.jinja']),
    ]);
    taken.close();
    expect(results.map(({ code }) => code)).toEqual([1, 2, 1, 1]);
    const messages = [
      /port \d+ is taken/,
      /--port is 70000; expected/,
      /no such address/,
      /cannot read \/nowhere\.jinja/,
    ];
    for (const [i, message] of messages.entries()) {
      expect(results[i]!.stderr).toMatch(message);
      expect(results[i]!.stderr.split('\n')).toHaveLength(2);
    }
  });
});

describe('sb-chat', () => {
  it('answers each line, in the same way for the same seed, and begins anew', async () => {
    const input = 'The words?\n/new\nThe words?\n\nMore\n/quit\nnever\n';
    const { code, stdout, stderr } = await run('sb-chat', ['--temperature', '0', '--max-new-tokens', '8'], input);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const answers = stdout.trimEnd().split('\n');
    expect(answers).toHaveLength(3);
    expect(answers[1]).toBe(answers[0]);
  });

  it('refuses what makes no sense', async () => {
    const { code, stderr } = await run('sb-chat', ['--temperature', '-1']);
    expect(code).toBe(2);
    expect(stderr).toBe('temperature is -1; expected 0 or more.\n');
  });
});
