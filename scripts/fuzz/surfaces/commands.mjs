// Command lines, and studies: their files and their folders.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseYaml } from '@stickbreaking/base/node';
import { z } from 'zod';
import { backend } from '../fixtures.mjs';
import { mutateArguments } from '../mutate.mjs';
import { evalArguments, filesUnder, mutateAnyFile, mutatedBytes, mutatedTree, yamlText } from './shared.mjs';

const run = (base) => ['--checkpoint', join(base, 'run'), '--backend', backend];

export const commands = {
  /** The command lines of every command. */
  async arguments({ base, folder, choose, mutations }) {
    const path = (name) => join(base, name);
    const own = (name) => join(folder, name);
    const train = ['train', '--data', path('text.jsonl'), '--vocab-size', '270', '--max-bytes', '2000'];
    const drawn = ['--attention', '--text', 'It is so', '--layers', '0', '--heads', '0..1', '--tokens', '8'];
    const plan = ['--plan', '--json', `output=${own('run')}`, 'seed=1', 'stages.0.schedule.peak=0.003'];
    const sampled = ['--temperature', '0.7', '--top-k', '5', '--top-p', '0.9', '--seed', '3', '--stop', 'the'];
    const study = ['--config', path('study.yaml'), '--only', 'stick', '--time-limit', '5', '--jobs', '1'];
    const lines = [
      ['sb-train', '--config', path('run.yaml'), ...plan],
      ['sb-train', '--config', path('run.yaml'), ...plan, '--resume', '--no-verify', `output=${path('run')}`],
      ['sb-eval', ...evalArguments(base)],
      [
        'sb-eval',
        ...evalArguments(base),
        '--protocol',
        'documents',
        '--format',
        'jsonl',
        '--output',
        own('scores.json'),
      ],
      ['sb-eval', ...run(base), ...drawn, '--output', own('a.html'), '--pictures', own('pictures')],
      ['sb-generate', ...run(base), '--prompt', 'It is', '--max-new-tokens', '3', ...sampled],
      ['sb-tokenizer', 'shrink', '--input', path('tokenizer.json'), '--vocab-size', '290', '--output', own('t.json')],
      ['sb-tokenizer', ...train, '--special-token', '<|a|>', '--output', own('t.json')],
      ['sb-study', '--config', 'speed-small', '--plan', `output=${own('study')}`],
      ['sb-study', ...study, '--report-only'],
      ['sb-report', path('run'), '--output', own('report.html'), '--title', 'Runs'],
      [
        'sb-eval',
        ...run(base),
        '--tasks',
        path('tasks/choice.yaml'),
        '--limit',
        '2',
        '--report',
        own('r.html'),
        '--json',
      ],
      ['sb-eval', 'tasks', '--harness', '0.4.13', '--ruler-lengths', '1024,2048', '--ruler-samples', '3'],
      ['sb-generate', ...run(base), '--prompts', path('prompts.jsonl'), '--output', own('o.jsonl'), '--batch', '2'],
      ['sb-chat', ...run(base), '--system', 'Be short.', '--max-new-tokens', '3', '--temperature', '0.5'],
    ];
    const [command, ...line] = choose.pick(lines);
    const args = mutations.reduce((at, seed) => mutateArguments(at, seed), line);
    // What was to be planned or reported must not be run instead, which would take its time.
    const needed = ['--plan', '--report-only'].filter((option) => line.includes(option) && !args.includes(option));
    const isUndone = (word) =>
      /^--(no-)?(plan|report-only)(=|$)/.test(word) && word !== '--plan' && word !== '--report-only';
    return { command, args: [...needed, ...args.filter((word) => !isUndone(word))] };
  },

  /** A study's file. */
  async study({ folder, choose, mutations }) {
    const kinds = ['length-extrapolation', 'context-extension', 'mqrar', 'speed'];
    const name = `../../../configs/studies/${choose.pick(kinds)}-${choose.pick(['small', 'full'])}.yaml`;
    const text = readFileSync(new URL(name, import.meta.url));
    const file = join(folder, 'study.yaml');
    const asTree = choose.below(2) === 0;
    writeFileSync(
      file,
      asTree
        ? yamlText(mutatedTree(parseYaml(text.toString(), name, z.any()), mutations))
        : mutatedBytes(text, mutations),
    );
    return { command: 'sb-study', args: ['--config', file, '--plan', `output=${join(folder, 'study')}`] };
  },

  /** A file that a study left: its kind, an arm's result, the numbers of its report. */
  async 'study-folder'({ base, folder, choose, mutations, copy }) {
    copy('study');
    const files = filesUnder(join(folder, 'study')).filter((path) => path.endsWith('.json') && !path.includes('/run/'));
    const file = choose.pick(files);
    mutateAnyFile(file, choose, mutations);
    const what = choose.pick(['--plan', '--report-only']);
    return {
      command: 'sb-study',
      args: ['--config', join(base, 'study.yaml'), what, `output=${join(folder, 'study')}`],
    };
  },
};
