// What is mutated, with which command it is tried, and how one sees that a mutation was swallowed. A surface is a
// function of a case's tools that returns `{ command, args, accepted }`; `accepted` says what is wrong with an exit code
// of 0, if anything.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runOf } from './fixtures.mjs';
import { mutateArguments, mutateBytes, mutateTree, oddText } from './mutate.mjs';

/** JSON that keeps what YAML can say and JSON cannot. */
const yamlText = (tree) =>
  JSON.stringify(tree, (_, value) => (typeof value === 'number' && !Number.isFinite(value) ? `<${value}>` : value), 1)
    .replaceAll('"<NaN>"', '.nan')
    .replaceAll('"<Infinity>"', '.inf')
    .replaceAll('"<-Infinity>"', '-.inf');

const mutatedTree = (tree, mutations) => mutations.reduce((at, seed) => mutateTree(at, seed), tree);
const mutatedBytes = (bytes, mutations) => mutations.reduce((at, seed) => mutateBytes(at, seed), bytes);
function mutateFile(path, mutations) {
  writeFileSync(path, mutatedBytes(readFileSync(path), mutations));
}

/** All files under a folder. */
function filesUnder(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .sort();
}

const evalArguments = (base, rest = []) => [
  ...['--checkpoint', join(base, 'run'), '--data', join(base, 'held-out.jsonl'), '--lengths', '16,32'],
  ...['--max-tokens', '64', '--backend', 'cpu', '--json', ...rest],
];

/** The numbers of sb-eval --json that do not depend on the clock or on paths. */
function scores(stdout) {
  const keep = (key, value) =>
    /second|checkpoint|data|source|path|date|time|tokenizer|file/i.test(key) ? undefined : value;
  return JSON.stringify(JSON.parse(stdout), keep);
}

const known = new Map();
/** What the command gives on the unmutated input, found out once. */
async function expected(key, find) {
  if (!known.has(key)) known.set(key, find());
  return known.get(key);
}

async function expectedScores(tools, args) {
  return expected(`eval ${args.join(' ')}`, async () => scores((await tools.run('sb-eval', args)).stdout));
}

/** Wrong where the scores are other than those of the unmutated input. */
const sameScores =
  (want) =>
  ({ stdout }) =>
    scores(stdout) === want ? undefined : `scores ${scores(stdout)}, not ${want}`;
const finiteScores = ({ stdout }) =>
  /NaN|null|Infinity/.test(scores(stdout)) ? `scores ${scores(stdout)}` : undefined;

function lossesOf(folder) {
  return readFileSync(join(folder, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).loss)
    .filter((loss) => loss !== undefined);
}

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

const overridesOf = (folder) => [`output=${join(folder, 'run')}`];

/** Only what a short run on a small machine can bear: sizes stay as they are. */
const mutable = ({ model: { attention, ...model }, ...run }) => ({
  seed: run.seed,
  optimizer: { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, gradientClip: 1, ...run.optimizer },
  schedule: run.stages[0].schedule,
  attention,
  rest: { normEpsilon: 1e-5, initializerRange: 0.02, mup: { residualMultiplier: 1, logitsDivider: 1 } },
  sizes: model,
});

export const surfaces = {
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

  /** A source of text, in each of its formats. */
  async source(tools) {
    const { base, folder, choose, mutations, copy } = tools;
    const name = choose.pick(['text.jsonl', 'text.jsonl.gz', 'text.txt', 'text.parquet']);
    copy(name);
    mutateFile(join(folder, name), mutations);
    const args = (where) =>
      evalArguments(base).map((one) => (one.endsWith('held-out.jsonl') ? join(where, name) : one));
    // gzip has a checksum, so that nothing but the same text may come out of it.
    const accepted = name.endsWith('.gz') ? sameScores(await expectedScores(tools, args(base))) : finiteScores;
    return { command: 'sb-eval', args: args(folder), accepted };
  },

  /** A tokenizer.json: its tree, or its bytes. */
  async tokenizer({ base, folder, choose, mutations }) {
    const text = readFileSync(join(base, 'tokenizer.json'));
    const file = join(folder, 'tokenizer.json');
    const asTree = choose.below(2) === 0;
    writeFileSync(
      file,
      asTree ? JSON.stringify(mutatedTree(JSON.parse(text), mutations)) : mutatedBytes(text, mutations),
    );
    if (choose.below(3) === 0) {
      const output = join(folder, 'small.json');
      return {
        command: 'sb-tokenizer',
        args: ['shrink', '--tokenizer', file, '--vocab-size', '280', '--output', output],
      };
    }
    return { command: 'sb-eval', args: evalArguments(base, ['--tokenizer', file]), accepted: finiteScores };
  },

  /** A file of a checkpoint, evaluated. */
  async checkpoint(tools) {
    const { base, folder, choose, mutations, copy } = tools;
    const [newest] = readdirSync(join(base, 'run/checkpoints'))
      .filter((name) => name.startsWith('step-'))
      .sort()
      .reverse();
    copy(join('run/checkpoints', newest), 'checkpoint');
    mutateFile(choose.pick(filesUnder(join(folder, 'checkpoint'))), mutations);
    const args = evalArguments(base);
    const want = await expectedScores(tools, args);
    const own = args.map((one) => (one === join(base, 'run') ? join(folder, 'checkpoint') : one));
    return { command: 'sb-eval', args: own, accepted: sameScores(want) };
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
    const target = choose.pick(files);
    const isMetrics = target.endsWith('metrics.jsonl');
    mutateFile(target, mutations);
    if (choose.below(20) === 0) writeFileSync(join(folder, 'run/.lock'), oddText(choose));
    const accepted = () => {
      const losses = lossesOf(join(folder, 'run')).join();
      // What was written of earlier steps is not computed again.
      const same = isMetrics ? losses.split(',').at(-1) === want.split(',').at(-1) : losses === want;
      return same ? undefined : `losses ${losses}, not ${want}`;
    };
    return { command: 'sb-train', args: args(folder), accepted };
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
    mutateFile(choose.pick(filesUnder(join(folder, 'tokens')).filter((path) => statSync(path).size > 0)), mutations);
    const accepted = () => {
      const losses = lossesOf(join(folder, 'run')).join();
      return losses === want ? undefined : `losses ${losses}, not ${want}`;
    };
    return { command: 'sb-train', args: args(join(folder, 'tokens')), accepted };
  },

  /** The command lines of every command. */
  async arguments({ base, folder, choose, mutations }) {
    const lines = {
      'sb-train': [
        '--config',
        join(base, 'run.yaml'),
        '--plan',
        '--json',
        ...overridesOf(folder),
        'seed=1',
        'stages.0.schedule.peak=0.003',
      ],
      'sb-eval': evalArguments(base),
      'sb-generate': [
        '--checkpoint',
        join(base, 'run'),
        '--prompt',
        'It is',
        '--max-new-tokens',
        '3',
        '--top-k',
        '5',
        '--backend',
        'cpu',
      ],
      'sb-tokenizer': [
        'shrink',
        '--tokenizer',
        join(base, 'tokenizer.json'),
        '--vocab-size',
        '290',
        '--output',
        join(folder, 't.json'),
      ],
      'sb-study': ['--config', 'configs/studies/speed-small.yaml', '--plan', `output=${join(folder, 'study')}`],
    };
    const command = choose.pick(Object.keys(lines));
    const args = mutations.reduce((at, seed) => mutateArguments(at, seed), lines[command]);
    // What was to be planned must not be run instead, which would take its time.
    const planned = lines[command].includes('--plan') && !args.includes('--plan');
    return { command, args: planned ? ['--plan', ...args] : args };
  },

  /** A study's file. */
  async study({ folder, choose, mutations }) {
    const kinds = ['length-extrapolation', 'context-extension', 'mqrar', 'speed'];
    const text = readFileSync(`configs/studies/${choose.pick(kinds)}-${choose.pick(['small', 'full'])}.yaml`);
    const file = join(folder, 'study.yaml');
    writeFileSync(file, mutatedBytes(text, mutations));
    return { command: 'sb-study', args: ['--config', file, '--plan', `output=${join(folder, 'study')}`] };
  },

  /** Prompts, which must come out as they went in. */
  async prompt({ base, choose, mutations }) {
    const words = mutatedBytes(Buffer.from('"Peace" and \'war\' — - item = {a: 1}, 100 %'), mutations).toString();
    const prompt = choose
      .pick([words, words, oddText(choose)])
      .replaceAll('\0', '')
      .toWellFormed();
    const rest = ['--max-new-tokens', '2', '--backend', 'cpu', '--seed', String(choose.below(100))];
    const accepted = ({ stdout }) =>
      stdout.startsWith(prompt) ? undefined : `${JSON.stringify(stdout.slice(0, 100))} does not begin with the prompt`;
    return { command: 'sb-generate', args: ['--checkpoint', join(base, 'run'), '--prompt', prompt, ...rest], accepted };
  },
};
