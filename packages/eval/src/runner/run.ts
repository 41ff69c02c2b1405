/** Asks a model everything that tasks ask, and gives each task its answers. */
import { UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import type { LlamaModel } from '@stickbreaking/model';
import { scorerOf } from '../scoring.js';
import type { BuiltTask } from '../tasks/build.js';
import { rollingWindows } from '../tasks/rolling.js';
import type { DocumentScore, TaskResult } from '../tasks/scores.js';
import { type AnswerOf, type RequestKind, type RequestOf, requestsOf, scoreExamples } from '../tasks/task.js';
import type { Answers } from './answers.js';
import { type GeneratingModel, type GenerationJob, generateTexts, generationJob } from './generate.js';
import { MOST_NEXT, packsOf, type Sequence, scoreNextTokens, scorePack, sequenceOf } from './packs.js';
import { isOwn, type Part } from './parts.js';
import { encodePairs, encodePrefix, encodePrompts, encodeWholeTexts, type TokenRules } from './tokens.js';

/** A model with what it reads. */
export interface AskedModel {
  model: Pick<LlamaModel, 'tokenLosses'> & GeneratingModel;
  tokenizer: Tokenizer;
}

/** How a model is asked. */
export interface AskOptions {
  rules: TokenRules;
  answers: Answers;
  /** The most tokens that run through the model together. */
  batchTokens: number;
  /** Of generation that draws. */
  seed: number;
  /** Told how far it is, in tokens: of what was asked anew, and of that all. */
  onProgress?: (done: number, total: number, what: string) => void;
  /** Only this part of the work is done, and no task gets its answers. */
  part?: Part | undefined;
  /** Contexts that do not fit are refused instead of cut. */
  strictLength?: boolean;
  /** Asks to stop; what has been answered is kept. */
  signal?: AbortSignal;
}

/** A task that was evaluated. */
export interface TaskOutcome {
  task: BuiltTask;
  result: TaskResult;
  /** One for each document. */
  scores: readonly DocumentScore[];
  /** Of each document, one for each request. */
  answers: readonly (readonly AnswerOf<RequestKind>[])[];
  /** Requests whose context was cut on the left to fit the model. */
  cut: number;
  /** Tokens of the first requests, to be looked at. */
  firstTokens: readonly (readonly number[])[];
}

/** What a request comes to: sequences whose likelihoods are summed, or a prompt. */
type Job = { sequences: readonly Sequence[]; cut: number } | { generation: GenerationJob; cut: number };

export async function runTasks(
  tasks: readonly BuiltTask[],
  asked: AskedModel,
  options: AskOptions,
): Promise<TaskOutcome[]> {
  const jobs: Job[][] = [];
  for (const task of tasks) {
    jobs.push(await jobsOf(requestsOf(task), options));
    if (options.strictLength) refuseCut(task, jobs.at(-1)!, options.rules);
  }
  const all = jobs.flat();
  await scoreSequences(
    all.flatMap((job) => ('sequences' in job ? job.sequences : [])),
    asked.model,
    options,
  );
  for (const [t, task] of tasks.entries()) {
    const own = jobs[t]!.flatMap((job) => ('generation' in job ? [job.generation] : []));
    if (own.length > 0) await generateAll(task, own, asked, options);
  }
  if (options.part) return [];
  return tasks.map((task, t) => outcomeOf(task, jobs[t]!, options.answers));
}

function refuseCut({ name }: BuiltTask, jobs: readonly Job[], { maxLength }: TokenRules): void {
  const longer = jobs.filter(({ cut }) => cut > 0).length;
  if (longer === 0) return;
  throw new UserError(
    `${name}: ${longer} of ${jobs.length} contexts do not fit the ${maxLength} tokens of the model; leave out --strict-length to cut them on the left.`,
  );
}

async function jobsOf(requests: readonly RequestOf<RequestKind>[], { rules, seed }: AskOptions): Promise<Job[]> {
  const [first] = requests;
  if (first === undefined) return [];
  if ('text' in first) {
    const texts = await encodeWholeTexts(
      (requests as RequestOf<'loglikelihood_rolling'>[]).map(({ text }) => text),
      rules,
    );
    return texts.map((tokens) => ({ sequences: windowsOf(tokens, rules), cut: 0 }));
  }
  if ('settings' in first) {
    const own = requests as RequestOf<'generate_until'>[];
    const prompts = await encodePrompts(
      own.map(({ context, settings }) => ({ context, newTokens: settings.max_gen_toks })),
      rules,
    );
    return prompts.map(({ tokens, cut }, i) => ({ generation: generationJob(tokens, own[i]!.settings, seed), cut }));
  }
  const pairs = await encodePairs(requests as RequestOf<'loglikelihood'>[], rules);
  return pairs.map((scored) => ({ sequences: [sequenceOf(scored)], cut: scored.cut }));
}

/** The windows of a whole text, each with the tokens that it scores. */
function windowsOf(tokens: readonly number[], { maxLength, tokenizer }: TokenRules): Sequence[] {
  return rollingWindows(tokens, maxLength, tokenizer.beginId).map((window) => {
    const targets = window.targets.filter((target) => target !== -1);
    return sequenceOf({ input: window.tokens, targets, cut: 0 });
  });
}

async function scoreSequences(
  sequences: readonly Sequence[],
  model: AskedModel['model'],
  { answers, batchTokens, onProgress, signal, part }: AskOptions,
): Promise<void> {
  const isKnown = ({ key }: Sequence) => answers.get(key) !== undefined;
  // Single tokens after the same input, such as the letters of choices, take one pass.
  const singles = new Map<string, Sequence[]>();
  for (const one of sequences) {
    if (one.targets.length !== 1) continue;
    const input = one.input.join();
    singles.set(input, [...(singles.get(input) ?? []), one]);
  }
  const alike = new Map([...singles.values()].map((group) => [group[0]!.key, group]));
  const score = scorerOf(model as LlamaModel);
  const long = packsOf(
    sequences.filter((one) => one.targets.length !== 1),
    batchTokens,
  ).map((pack) => ({ pack, all: pack.sequences, run: () => scorePack(score, pack) }));
  const short = packsOf(
    [...singles.values()].map(([first]) => first!),
    batchTokens,
    MOST_NEXT,
  ).map((pack) => ({
    pack,
    all: pack.sequences.flatMap(({ key }) => alike.get(key)!),
    run: async () => {
      const targets = ({ key }: Sequence) => alike.get(key)!.map((one) => one.targets[0]!);
      return (await scoreNextTokens(model, pack, targets)).flat();
    },
  }));
  const open = [...long, ...short].filter(({ all }, number) => isOwn(part, number) && !all.every(isKnown));
  const total = open.reduce((sum, { pack }) => sum + pack.tokens, 0);
  let done = 0;
  for (const { pack, all, run } of open) {
    signal?.throwIfAborted();
    onProgress?.(done, total, 'tokens scored');
    const likelihoods = await run();
    const fresh = new Map(all.flatMap((one, i) => (isKnown(one) ? [] : [[one.key, likelihoods[i]!] as const])));
    answers.add([...fresh]);
    done += pack.tokens;
  }
  if (total > 0) onProgress?.(done, total, 'tokens scored');
}

async function generateAll(
  task: BuiltTask,
  jobs: readonly GenerationJob[],
  { model, tokenizer }: AskedModel,
  { answers, onProgress, signal, rules, part }: AskOptions,
): Promise<void> {
  const each = new Map(jobs.map((job) => [job.key, job]));
  const open = [...each.values()].filter(({ key }, number) => isOwn(part, number) && answers.get(key) === undefined);
  const what = `answers of ${task.name}`;
  let done = 0;
  if (open.length > 0) onProgress?.(done, open.length, what);
  const prefix = await encodePrefix(task.sharedBeginning, rules);
  await generateTexts(model, open, {
    tokenizer,
    prefix,
    signal,
    onText: (job, text) => {
      answers.add([[job.key, text]]);
      onProgress?.(++done, open.length, what);
    },
  });
}

function outcomeOf(task: BuiltTask, jobs: readonly Job[], known: Answers): TaskOutcome {
  const flat = jobs.map((job): AnswerOf<RequestKind> => {
    if ('generation' in job) return { text: known.get(job.generation.key) as string };
    const likelihoods = job.sequences.map(({ key }) => known.get(key) as number);
    if (task.kind === 'loglikelihood_rolling') return { losses: Float64Array.from(likelihoods, (value) => -value) };
    return { logLikelihood: likelihoods[0]!, isGreedy: undefined };
  });
  let next = 0;
  const answers = task.examples.map(({ requests }) => {
    next += requests.length;
    return flat.slice(next - requests.length, next);
  });
  const scores = scoreExamples(task, flat);
  return {
    task,
    scores,
    answers,
    result: task.summarise(scores),
    cut: jobs.filter(({ cut }) => cut > 0).length,
    firstTokens: jobs
      .slice(0, 4)
      .map((job) =>
        'generation' in job
          ? job.generation.tokens
          : job.sequences.flatMap((one) => [...one.input, ...one.targets.slice(-1)]),
      ),
  };
}
