import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EXIT, UserError, VERSION } from '../index.js';
import { runCommand } from './command.js';

let stdout = '';
let stderr = '';
beforeEach(() => {
  [stdout, stderr] = ['', ''];
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    stdout += text;
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += text;
    return true;
  });
  vi.spyOn(console, 'log').mockImplementation((text) => {
    stdout += `${text}\n`;
  });
});
afterEach(() => vi.restoreAllMocks());

interface Arguments {
  _: (string | number)[];
  prompt?: string;
  stop?: string[];
  topK?: number;
  json?: boolean;
}

/** A command with an option of each kind; gives what it was run with. */
async function run(argv: string[], work?: () => unknown): Promise<{ code: number; args?: Arguments }> {
  let seen: Arguments | undefined;
  const code = await runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .strict(false)
        .strictOptions()
        .scriptName('sb-test')
        .option('prompt', { type: 'string' })
        .option('stop', { type: 'string', array: true })
        .option('top-k', { type: 'number' })
        .option('json', { type: 'boolean' }) as never,
    async (args) => {
      seen = args;
      return work?.();
    },
  );
  return { code, args: seen };
}

describe('arguments', () => {
  it.each([
    '"Peace" and "war"',
    "'quoted'",
    '- item',
    '--- three',
    '-_-',
    '--_=3',
    '-5',
    '',
    ' ',
    'a=b',
    '--=',
    'two\nlines',
    '1e9',
    '{a: 1}',
    '[x]',
    'true',
    '--prompt is what I typed',
    '--help',
    '--version',
  ])('reach the program as they were typed: %j', async (text) => {
    for (const argv of [['--prompt', text], [`--prompt=${text}`], ['--json', '--prompt', text, '--top-k', '3']]) {
      expect((await run(argv)).args, stderr).toMatchObject({ prompt: text });
    }
    expect((await run(['--stop', text, 'b', '--json'])).args).toMatchObject({ stop: [text, 'b'], json: true });
    expect((await run(['--', text])).args?._).toEqual([text]);
  });

  it('that are no options keep their digits and quotes', async () => {
    expect((await run(['1e9', 'a="b"', '007', '--top-k', '-3', 'x=1'])).args).toMatchObject({
      _: ['1e9', 'a="b"', '007', 'x=1'],
      topK: -3,
    });
  });

  it.each([
    [['--prompt'], /prompt/],
    [['--prompt', '--json'], /prompt/],
    [['--promt', 'x'], /Unknown argument: promt; did you mean --prompt\?/],
    [['--tpo-k=3'], /Unknown arguments: tpo-k, tpoK; did you mean --top-k\?/],
    [['--temperature', '3'], /Unknown argument: temperature \(see --help\)/],
    [['-_-json'], /Unknown argument: -_-json/],
    [['--_=3'], /Unknown argument: --_=3/],
    [['--$0', 'x'], /Unknown argument: --\$0/],
    [['-x_y'], /Unknown argument: -x_y/],
    [['--top-k', 'many'], /--top-k expects a number/],
    [['--top-k', ''], /--top-k expects a number/],
    [['--topK= '], /--topK expects a number/],
    [['--prompt.', 'x'], /Unknown argument: prompt\./],
    [['--prompt.a', 'x'], /Unknown argument: prompt\.a/],
    [['--no-prompt'], /--no-prompt is not an option/],
    [['--no-top-k', '--json'], /--no-top-k is not an option/],
    [['--json=1e-8'], /--json is a switch and takes no value/],
    [['--json=&a [*a]'], /--json is a switch/],
    [['--TOP-K', '3'], /Unknown argument: TOP-K; did you mean --top-k\?/],
    [['--Top-K', '--top-k', '3'], /Unknown arguments: Top-K/],
    [['--json', '--prompt', 'a', '--prompt', 'b'], /--prompt was given more than once/],
  ])('that are wrong are told in one line: %j', async (argv, message) => {
    expect((await run(argv)).code).toBe(EXIT.usage);
    expect(stderr).toMatch(message);
    expect(stderr.split('\n')).toHaveLength(2);
  });
});

describe('completion', () => {
  it('prints a script for the shell, and what that script asks for, and runs nothing', async () => {
    const work = vi.fn();
    expect((await run(['completion'], work)).code).toBe(EXIT.done);
    expect(stdout).toMatch(/###-begin-sb-test-completions-###.*--get-yargs-completions/s);
    stdout = '';
    expect((await run(['--get-yargs-completions', 'sb-test', '--pr'], work)).code).toBe(EXIT.done);
    expect(stdout.split('\n')).toContain('--prompt');
    expect(work).not.toHaveBeenCalled();
  });
});

describe('a command that has commands', () => {
  const call = (...argv: string[]) =>
    runCommand<{ _: string[] }>(
      argv,
      (parser) => parser.scriptName('sb-test').command('one', 'One').command('two', 'Two') as never,
      async ({ _: [name] }) => {
        stdout += name;
      },
    );

  it('takes one of them, and what follows -- for none', async () => {
    expect(await call('two')).toBe(EXIT.done);
    expect(stdout).toBe('two');
    for (const argv of [['--', 'x'], ['--', 'two'], ['three'], [], ['--', '--input', 'x']])
      expect(await call(...argv)).toBe(EXIT.usage);
    expect(stdout).toBe('two');
    expect(stderr).toMatch(/Name a command: one, two\. \(see --help\)/);
  });
});

describe('the end of a command', () => {
  it('answers --version', async () => {
    expect((await run(['--version'])).code).toBe(EXIT.done);
    expect(stdout.trim()).toBe(VERSION);
  });

  it('has the code that the command gives', async () => {
    expect((await run([])).code).toBe(EXIT.done);
    expect((await run([], () => EXIT.unfinished)).code).toBe(EXIT.unfinished);
  });

  it('tells a mistake on one line, with control characters shown and long words cut', async () => {
    const name = `a\u001b[31m\n${'x'.repeat(5000)}`;
    const mistake = () => {
      throw new UserError(`cannot read ${name}.`, { exitCode: EXIT.refused });
    };
    expect((await run([], mistake)).code).toBe(EXIT.refused);
    expect(stderr).toMatch(/^cannot read a\\u001b\[31m\\nx{200,}…\n$/);
    expect(stderr.length).toBeLessThan(400);
  });

  it('names the path of an error of the system', async () => {
    const denied = Object.assign(new Error('EACCES'), { code: 'EACCES', errno: -13, syscall: 'open', path: '/a/b' });
    const fail = () => Promise.reject(denied);
    expect((await run([], fail)).code).toBe(EXIT.mistake);
    expect(stderr).toBe('cannot open /a/b: permission denied (EACCES).\n');
  });

  it('shows the stack of a fault of the program, and says that it is one', async () => {
    const fail = () => {
      throw new TypeError('x is not a function');
    };
    expect((await run([], fail)).code).toBe(EXIT.internal);
    expect(stderr).toMatch(/fault of the program.*\nTypeError: x is not a function\n\s+at /);
  });
});
