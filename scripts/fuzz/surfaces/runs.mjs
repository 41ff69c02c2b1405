// Runs: their files, their folders, the tokens that they train on.
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { runOf } from '../fixtures.mjs';
import { oddNumber, oddText } from '../mutate.mjs';
import { expected, filesUnder, lossesOf, mutateAnyFile, mutatedBytes, mutatedTree, yamlText } from './shared.mjs';

function planFault({ stdout }) {
  const plan = JSON.parse(stdout);
  for (const key of ['parameters', 'steps', 'tokens', 'memoryBytes', 'diskBytes']) {
    if (!(Number.isFinite(plan[key]) && plan[key] > 0)) return `the plan's ${key} is ${plan[key]}`;
  }
  for (const { name, learningRates } of plan.stages) {
    if (!learningRates.every(({ learningRate }) => Number.isFinite(learningRate)))
      return `${name}: a rate that is no number`;
    if (!learningRates.some(({ learningRate }) => learningRate > 0)) return `${name}: a learning rate of 0 throughout`;
  }
  return undefined;
}

/** Only what a short run on a small machine can bear: sizes stay as they are. */
const mutable = ({ model: { attention, ...model }, ...run }) => ({
  seed: run.seed,
  optimizer: { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, gradientClip: 1, ...run.optimizer },
  schedule: run.stages[0].schedule,
  attention,
  rest: { normEpsilon: 1e-5, initializerRange: 0.02, mup: { residualMultiplier: 1, logitsDivider: 1 } },
  sizes: model,
});

const variable = (name) => `$\{${name}}`;

/** A tree with its keys a line each and variables as they are written: unquoted. */
function layerText(tree) {
  if (typeof tree !== 'object' || tree === null || Array.isArray(tree)) return yamlText(tree) ?? '';
  const text = (value) => (/^\$\{\w+\}$/.test(String(value)) ? value : yamlText(value));
  const present = Object.entries(tree).filter(([, value]) => value !== undefined);
  return present.map(([key, value]) => `${JSON.stringify(key)}: ${text(value)}\n`).join('');
}

export const runs = {
  /** A run file: its tree. */
  async 'run-file'({ base, folder, mutations }) {
    const file = join(folder, 'run.yaml');
    writeFileSync(file, yamlText(mutatedTree({ ...runOf(base), output: join(folder, 'run') }, mutations)));
    return { command: 'sb-train', args: ['--config', file, '--plan', '--json'], accepted: planFault };
  },

  /** A run file: its bytes. */
  async 'run-file-bytes'({ base, folder, mutations }) {
    const file = join(folder, 'run.yaml');
    writeFileSync(file, mutatedBytes(Buffer.from(yamlText(runOf(base))), mutations));
    return { command: 'sb-train', args: ['--config', file, '--plan', '--json'], accepted: planFault };
  },

  /** A run file that extends another one and names variables of the environment. */
  async 'run-file-layers'({ base, folder, choose, mutations }) {
    const { stages, output, seed, ...below } = runOf(base);
    const own = {
      ...{ extends: 'below.yaml', output: `${folder}/${variable('FUZZ_NAME:-run')}`, seed: variable('FUZZ_SEED') },
      ...{ stages, validation: null, optimizer: { weightDecay: 0.2 }, shards: '~/tokens' },
    };
    process.env.FUZZ_SEED = choose.below(3) === 0 ? String(oddNumber(choose)) : '7';
    delete process.env.FUZZ_NAME;
    if (choose.below(2) === 0) process.env.FUZZ_NAME = oddText(choose).replaceAll('\0', '');
    const asTree = choose.below(3) > 0;
    const changed = (tree) =>
      asTree ? layerText(mutatedTree(tree, mutations)) : mutatedBytes(Buffer.from(layerText(tree)), mutations);
    const lowest = choose.pick([undefined, undefined, undefined, join(base, 'run.yaml'), 'run.yaml']);
    const lower = { ...below, output, seed, extends: lowest };
    const isBelow = choose.below(2) === 0;
    writeFileSync(join(folder, 'below.yaml'), isBelow ? changed(lower) : layerText(lower));
    writeFileSync(join(folder, 'run.yaml'), isBelow ? layerText(own) : changed(own));
    return {
      command: 'sb-train',
      args: ['--config', join(folder, 'run.yaml'), '--plan', '--json'],
      accepted: planFault,
    };
  },

  /** Numbers of the optimizer, the schedule and the attention, trained with for two steps. */
  async training({ base, folder, mutations }) {
    const run = { ...runOf(base), output: join(folder, 'run') };
    const { sizes } = mutable(run);
    const changed = mutatedTree(mutable(run), mutations);
    run.model = { ...changed.rest, ...sizes, attention: changed.attention };
    run.optimizer = changed.optimizer;
    run.seed = changed.seed;
    run.stages = [{ ...run.stages[0], schedule: changed.schedule, steps: 2 }];
    const file = join(folder, 'run.yaml');
    writeFileSync(file, yamlText(run));
    const accepted = () => {
      const losses = lossesOf(run.output);
      return losses.every((loss) => Number.isFinite(loss)) ? undefined : `losses ${losses}`;
    };
    return { command: 'sb-train', args: ['--config', file], accepted };
  },

  /** Any file of a run's folder, gone on with. */
  async resume(tools) {
    const { base, folder, choose, mutations, copy, run } = tools;
    const args = (where) => [
      ...['--config', join(base, 'run.yaml'), '--resume', `output=${join(where, 'run')}`, 'stages.1.steps=3'],
    ];
    const want = await expected('resume', async () => {
      copy('run');
      await run('sb-train', args(folder));
      return lossesOf(join(folder, 'run')).join();
    });
    tools.fresh();
    copy('run');
    const files = filesUnder(join(folder, 'run')).filter((path) => !path.endsWith('train.log'));
    const metrics = join(folder, 'run/metrics.jsonl');
    const target = choose.pick([...files, metrics, metrics]);
    const isMetrics = target === metrics;
    // Without its checksums a damaged checkpoint is looked at more closely; not all of it can be found then.
    const isTrusted = choose.below(3) === 0;
    mutateAnyFile(target, choose, mutations);
    if (choose.below(20) === 0) writeFileSync(join(folder, 'run/.lock'), oddText(choose));
    const accepted = () => {
      const losses = lossesOf(join(folder, 'run')).join();
      if (isTrusted) return /\d/.test(losses) ? undefined : `losses ${losses}`;
      // What was written of earlier steps is not computed again.
      const same = isMetrics ? losses.split(',').at(-1) === want.split(',').at(-1) : losses === want;
      return same ? undefined : `losses ${losses}, not ${want}`;
    };
    const rest = isTrusted ? ['--no-verify'] : [];
    return { command: 'sb-train', args: [...args(folder), ...rest], accepted };
  },

  /** Any file of a run's folder, reported on: what is damaged may be missing from the report, which is whole all the same. */
  async report({ folder, choose, mutations, copy }) {
    copy('run');
    const files = filesUnder(join(folder, 'run'));
    const own = files.filter((path) => /metrics\.jsonl$|train\.log$|state\.json$|latest$/.test(path));
    mutateAnyFile(choose.pick([...files, ...own, ...own]), choose, mutations);
    const output = join(folder, 'report.html');
    const accepted = () => {
      const [, json] = /<script id="runs" type="application\/json">(.*?)<\/script>/s.exec(readFileSync(output, 'utf8'));
      const { tables } = JSON.parse(json).runs[0].metrics;
      const columns = Object.values(tables).flatMap(({ values, ...places }) => {
        const numbers = Object.values(places).flat();
        return numbers.every(Number.isFinite)
          ? Object.values(values).map(({ length }) => length - places.step.length)
          : [1];
      });
      return columns.every((more) => more === 0)
        ? undefined
        : 'columns of several lengths, or with places that are no numbers';
    };
    return { command: 'sb-report', args: [join(folder, 'run'), '--output', output], accepted };
  },

  /** A file of tokenized text, trained on. */
  async shards(tools) {
    const { base, folder, choose, mutations, copy, run } = tools;
    const args = (shards) => [
      ...['--config', join(base, 'run.yaml'), `output=${join(folder, 'run')}`, `shards=${shards}`],
      'stages=[{steps: 2, schedule: {kind: constant, peak: 0.01}, data: [{path: '.concat(
        join(base, 'text.jsonl'),
        '}]}]',
      ),
    ];
    const want = await expected('shards', async () => {
      await run('sb-train', args(join(base, 'tokens')));
      return lossesOf(join(folder, 'run')).join();
    });
    tools.fresh();
    copy('tokens');
    const files = filesUnder(join(folder, 'tokens')).filter((path) => statSync(path).size > 0);
    mutateAnyFile(choose.pick(files), choose, mutations);
    const accepted = () => {
      const losses = lossesOf(join(folder, 'run')).join();
      return losses === want ? undefined : `losses ${losses}, not ${want}`;
    };
    return { command: 'sb-train', args: args(join(folder, 'tokens')), accepted };
  },

  /** A run that begins with the weights of another, whose model is as the run file says or not. */
  async 'start-from'({ base, folder, choose, mutations }) {
    const start = { path: join(base, choose.pick(['run', 'llama'])), allow: choose.pick([[], ['attention']]) };
    const { stages, ...run } = { ...runOf(base), output: join(folder, 'run'), startFrom: start };
    const changed = mutatedTree({ startFrom: run.startFrom, attention: run.model.attention }, mutations);
    const model = { ...run.model, attention: changed.attention };
    const file = join(folder, 'run.yaml');
    const all = { ...run, model, startFrom: changed.startFrom, stages: [{ ...stages[0], steps: 1 }] };
    writeFileSync(file, yamlText(all));
    const accepted = () => {
      const isOwn = isDeepStrictEqual(changed.attention, run.model.attention) && start.path.endsWith('run'); // in any order of keys
      const [loss] = lossesOf(all.output);
      if (!Number.isFinite(loss)) return `a loss of ${loss}`;
      const isAsked =
        JSON.stringify(changed.startFrom ?? null).includes('attention') || changed.startFrom === undefined;
      return isOwn || isAsked || start.path !== changed.startFrom?.path ? undefined : 'another model was started from';
    };
    return { command: 'sb-train', args: ['--config', file], accepted };
  },
};
