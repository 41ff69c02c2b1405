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

describe('the command in a line', () => {
  const call = (...argv: string[]) =>
    runCommand<Record<string, unknown> & { _: string[] }>(
      argv,
      (parser) =>
        parser
          .scriptName('sb-test')
          .command('train', 'Train', (command) =>
            command.options({
              data: { type: 'string', array: true, demandOption: true },
              size: { type: 'number' },
              output: { type: 'string' },
              json: { type: 'boolean' },
              how: { choices: ['fast', 'well'] },
            }),
          )
          .command('shrink', 'Shrink', (command) =>
            command.options({ input: { type: 'string' }, json: { type: 'boolean' } }),
          ) as never,
      async ({ _: [name], data, size, json, input }) => {
        stdout += JSON.stringify([name, data, size, json, input]);
      },
    );

  it.each([
    [
      ['train', '--data', 'x'],
      ['train', ['x'], null, null, null],
    ],
    [
      ['--data', 'x', '--json', 'train'],
      ['train', ['x'], null, true, null],
    ],
    [
      ['--json', 'train', '--data', 'x', 'y'],
      ['train', ['x', 'y'], null, true, null],
    ],
    [
      ['--size', '-3', 'train', '--data', 'x'],
      ['train', ['x'], -3, null, null],
    ],
    [
      ['--data', 'x', 'y', 'train'],
      ['train', ['x', 'y'], null, null, null],
    ],
    [
      ['--data', 'shrink', '--size=3', 'train'],
      ['train', ['shrink'], 3, null, null],
    ],
    [
      ['train', '--data', 'x', 'shrink'],
      ['train', ['x', 'shrink'], null, null, null],
    ],
    [
      ['--input', 'train', 'shrink'],
      ['shrink', null, null, null, 'train'],
    ],
    [
      ['train', '--data', '- x', '"y"'],
      ['train', ['- x', '"y"'], null, null, null],
    ],
    [
      ['train', '--data', '-', 'x', '--how', 'well', '--size', '3'],
      ['train', ['-', 'x'], 3, null, null],
    ],
    [
      ['train', '--data', 'x', '--how=well'],
      ['train', ['x'], null, null, null],
    ],
  ])('may follow its options: %j', async (argv, expected) => {
    expect(await call(...argv), stderr).toBe(EXIT.done);
    expect(JSON.parse(stdout)).toEqual(expected);
  });

  it.each([
    [['trian'], /Unknown command: trian; did you mean train\?/],
    [['trian', '--data', 'x'], /Unknown command: trian; did you mean train\?/],
    [['--data', 'x', 'trian'], /Unknown command: trian; did you mean train\?/],
    [['--data', 'x', '--size', '3', 'Trian', '--output', 'y'], /Unknown command: Trian; did you mean train\?/],
    [['--json', 'trian', '--data', 'x'], /Unknown command: trian; did you mean train\?/],
    [['--siz', '3', '--json', 'shrnk'], /Unknown command: shrnk; did you mean shrink\?/],
    [['--siz', 'trian'], /Unknown command: trian; did you mean train\?/],
    [['--input', 'train', 'shrik'], /Unknown command: shrik; did you mean shrink\?/],
    [['evaluate', '--json'], /Unknown command: evaluate; expected train, shrink /],
    [['x', 'train'], /Unknown command: x; expected train, shrink /],
    [['--data', 'x'], /Name a command: train, shrink\./],
    [['--data', 'x', 'y.txt'], /Name a command: train, shrink\./],
    [['--input', 'train'], /Name a command: train, shrink\./],
    [['--data', 'x', '--', 'train'], /Name a command: train, shrink\./],
    [['--trian'], /Unknown argument: trian; did you mean train\?/],
    [['train', '--dta', 'x'], /Unknown argument: dta; did you mean --data\?/],
    [['train', '--data', 'x', '--no-output'], /--no-output is not an option; --output takes a value/],
    [['train', '--data', 'x', '--no-how'], /--no-how is not an option; --how takes a value/],
    [['train', '--data', 'x', '--how', 'ill'], /Invalid values:.*Argument: how, Given: "ill"/],
    [['shrink', '--no-input'], /--no-input is not an option; --input takes a value/],
    [['train', '--data', 'x', '--size='], /--size expects a number/],
    [['--json=5', 'train', '--data', 'x'], /--json is a switch and takes no value/],
  ])('is named where it is wrong, and not its options: %j', async (argv, message) => {
    expect(await call(...argv)).toBe(EXIT.usage);
    expect([stdout, stderr]).toEqual(['', expect.stringMatching(message)]);
    expect(stderr.split('\n')).toHaveLength(2);
  });

  it('may be one that reads the rest of the line itself', async () => {
    const rest = vi.fn(async () => EXIT.done);
    const evaluate = (...argv: string[]) =>
      runCommand<{ json?: boolean }>(
        argv,
        (parser) => parser.scriptName('sb-test').option('json', { type: 'boolean' }) as never,
        async ({ json }) => {
          stdout += json;
        },
        { compare: rest },
      );
    expect(await evaluate('--json', 'compare', 'a', '--other')).toBe(EXIT.done);
    expect(rest.mock.calls).toEqual([[['--json', 'a', '--other']]]);
    expect(await evaluate('comapre', 'a')).toBe(EXIT.usage);
    expect(stderr).toMatch(/Unknown command: comapre; did you mean compare\?/);
    expect(await evaluate('a', 'compare')).toBe(EXIT.usage);
    expect(stderr).toMatch(/Unknown arguments: a, compare/);
    for (const word of ['constructor', '__proto__', 'valueOf']) {
      expect(await evaluate(word, 'a')).toBe(EXIT.usage);
      expect(stderr).toMatch(`Unknown arguments: ${word}, a`);
    }
    expect(await evaluate('--json')).toBe(EXIT.done);
    expect([stdout, rest.mock.calls.length]).toEqual(['true', 1]);
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
