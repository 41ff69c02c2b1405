/** The workflow of a public host: nobody here runs it, so what can be held without running it is held. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readYaml } from '@stickbreaking/base/node';
import { globSync } from 'tinyglobby';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';

const root = fileURLToPath(new URL('..', import.meta.url));
const { scripts, engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** As far as GitHub's own schema has what we use; a misspelt key is refused. */
const Step = z.union([
  z.strictObject({ uses: z.string(), name: z.string().optional(), with: z.record(z.string(), z.unknown()).optional() }),
  z.strictObject({ run: z.string(), name: z.string().optional(), if: z.string().optional() }),
]);
const Workflow = z.strictObject({
  name: z.string(),
  on: z.strictObject({ push: z.strictObject({ branches: z.array(z.string()) }), pull_request: z.null() }),
  permissions: z.strictObject({ contents: z.literal('read') }),
  concurrency: z.strictObject({ group: z.string(), 'cancel-in-progress': z.literal(true) }),
  jobs: z.record(
    z.string(),
    z.strictObject({
      name: z.string(),
      'runs-on': z.templateLiteral(['$', '{{ matrix.os }}']),
      'timeout-minutes': z.int().positive(),
      strategy: z.strictObject({
        'fail-fast': z.literal(false),
        matrix: z.strictObject({ os: z.array(z.string()), node: z.array(z.string()) }),
      }),
      steps: z.array(Step),
    }),
  ),
});

describe.each(globSync('.github/workflows/*.yml', { cwd: root, dot: true }))('%s', (file) => {
  const text = readFileSync(join(root, file), 'utf8');
  const { jobs } = readYaml(join(root, file), Workflow);
  const steps = Object.values(jobs).flatMap((job) => job.steps);

  it('runs on every system, from the oldest Node that the packages allow', () => {
    const { os, node } = jobs.test!.strategy.matrix;
    expect(os).toEqual(['ubuntu-latest', 'macos-latest', 'windows-latest']);
    expect(`>=${node[0]}`).toBe(engines.node);
    expect(node.map((one) => Number.parseInt(one, 10))).toEqual([20, 22, 24]);
  });

  it('pins its actions to commits, and says which versions they are', () => {
    const used = [...text.matchAll(/uses: (.*)$/gm)].map(([, action]) => action);
    expect(used.length).toBeGreaterThan(1);
    for (const one of used) expect(one).toMatch(/^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });

  it('runs commands that there are, whatever the shell', () => {
    const runs = steps.flatMap((step) => ('run' in step ? [step] : []));
    const own = runs.filter(({ run }) => run.startsWith('npm '));
    expect(own.map(({ run }) => run)).toEqual(['npm run setup', 'npm test']);
    for (const { run } of own) expect(scripts).toHaveProperty(run.replace(/^npm (run )?/, ''));
    for (const step of runs.filter((one) => !own.includes(one))) expect(step.if).toContain("runner.os == 'Linux'");
    expect(runs.flatMap(({ run }) => run.split('&&')).every((one) => /^\s*(npm|sudo apt-get) /.test(one))).toBe(true);
  });
});

it('there is a workflow', () => {
  expect(globSync('.github/workflows/*.yml', { cwd: root, dot: true })).toHaveLength(1);
});
