/** Asks a model everything that tasks ask, and gives each task its answers. */
import { UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import type { BuiltTask } from '../tasks/build.js';
import { rollingWindows } from '../tasks/rolling.js';
import type { DocumentScore, TaskResult } from '../tasks/scores.js';
import { type AnswerOf, type RequestKind, type RequestOf, requestsOf, scoreExamples } from '../tasks/task.js';
import { type Answers, likelihoodIn, textIn } from './answers.js';
import { type GeneratingModel, type GenerationJob, generateTexts, generationJob } from './generate.js';
import { packsOf } from './packs.js';
import { isOwn, type Part } from './parts.js';
import { PackScorer, type ScoringModel } from './score_packs.js';
import { type Sequence, sequenceOf } from './sequences.js';
import {
  encodePairs,
  encodePrefix,
  encodePrompts,
  encodeWholeTexts,
  type ScoredTokens,
  type TokenRules,
} from './tokens.js';

/** A model with what it reads. */
export interface AskedModel {
  model: ScoringModel & GeneratingModel;
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
  /** Other processes do the same, each a part of what is scored. */
  share?: Share;
  /** Refuses so many tokens at once, where there is no memory for them. */
  checkTokens?: ((tokens: number) => void) | undefined;
  /** Contexts that do not fit are refused instead of cut. */
  strictLength?: boolean;
  /** Asks to stop; what has been answered is kept. */
  signal?: AbortSignal;
}

/** A part of the work, of which all get what the others found. */
export interface Share extends Part {
  /** Sums of numbers over all processes, the same everywhere. */
  sum(numbers: readonly number[]): Promise<readonly number[]>;
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
    jobs.push(await jobsOf(task, options));
    if (options.strictLength) refuseCut(task, jobs.at(-1)!, options.rules);
  }
  const all = jobs.flat();
  options.checkTokens?.(mostAtOnce(all, options.batchTokens));
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

/** Tokens that run through the model together at most: what batches fill, or the longest that runs alone. */
function mostAtOnce(jobs: readonly Job[], batchTokens: number): number {
  let [longest, total] = [0, 0];
  for (const job of jobs) {
    const lengths =
      'generation' in job ? [job.generation.tokens.length] : job.sequences.map(({ input }) => input.length);
    for (const length of lengths) {
      longest = Math.max(longest, length);
      total += length;
    }
  }
  return Math.max(longest, Math.min(batchTokens, total));
}

function refuseCut({ name }: BuiltTask, jobs: readonly Job[], { maxLength }: TokenRules): void {
  const longer = jobs.filter(({ cut }) => cut > 0).length;
  if (longer === 0) return;
  throw new UserError(
    `${name}: ${longer} of ${jobs.length} contexts do not fit the ${maxLength} tokens of the model; leave out --strict-length to cut them on the left.`,
  );
}

async function jobsOf(task: BuiltTask, { rules, seed }: AskOptions): Promise<Job[]> {
  const requests = requestsOf(task);
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
  const ofTask = await encodePrefix(task.sharedBeginning, rules);
  let next = 0;
  return task.examples.flatMap((example) => {
    const own = pairs.slice(next, next + task.requests(example).length);
    next += own.length;
    return own.map((scored) => {
      const ofContext = goesOnOtherwise(scored, own);
      return { sequences: [sequenceOf(scored, { ofTask, ofContext })], cut: scored.cut };
    });
  });
}

/** Whether another sequence of the same document has the same context and goes on from there with other inputs. */
function goesOnOtherwise(scored: ScoredTokens, others: readonly ScoredTokens[]): boolean {
  const context = contextOf(scored).join();
  const input = scored.input.join();
  return others.some((one) => contextOf(one).join() === context && one.input.join() !== input);
}

/** The tokens before the first that is scored. */
const contextOf = ({ input, targets }: ScoredTokens) => input.slice(0, input.length - targets.length + 1);

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
  { answers, batchTokens, onProgress, signal, share, part = share }: AskOptions,
): Promise<void> {
  const isOpen = (key: string) => likelihoodIn(answers, key) === undefined;
  const open = packsOf(sequences, batchTokens).filter(
    ({ bundles }, number) =>
      isOwn(part, number) && bundles.some((bundle) => bundle.sequences.some(({ key }) => isOpen(key))),
  );
  const total = open.reduce((sum, { tokens }) => sum + tokens, 0);
  let done = 0;
  const scorer = new PackScorer(model, batchTokens);
  try {
    for (const pack of open) {
      signal?.throwIfAborted();
      onProgress?.(done, total, 'tokens scored');
      const scores = await scorer.score(pack);
      answers.add(
        [...scores].flatMap(([key, { logLikelihood, isGreedy }]) =>
          isOpen(key) ? [[key, [logLikelihood, isGreedy]] as const] : [],
        ),
      );
      done += pack.tokens;
    }
  } finally {
    scorer.dispose();
  }
  if (total > 0) onProgress?.(done, total, 'tokens scored');
  if (share) await exchange([...new Set(sequences.map(({ key }) => key))].sort(), answers, share);
}

/** Gives every process the likelihoods of all: each was found by one, and counts nothing in the others' sums. */
async function exchange(keys: readonly string[], answers: Answers, { sum }: Share): Promise<void> {
  const own = keys.map((key) => likelihoodIn(answers, key));
  const sums = await sum(own.flatMap((one) => (one ? [one[0], Number(one[1])] : [0, 0])));
  answers.add(keys.flatMap((key, i) => (own[i] ? [] : [[key, [sums[2 * i]!, sums[2 * i + 1] === 1]] as const])));
}

async function generateAll(
  task: BuiltTask,
  jobs: readonly GenerationJob[],
  { model, tokenizer }: AskedModel,
  { answers, onProgress, signal, rules, part }: AskOptions,
): Promise<void> {
  const each = new Map(jobs.map((job) => [job.key, job]));
  const open = [...each.values()].filter(
    ({ key }, number) => isOwn(part, number) && textIn(answers, key) === undefined,
  );
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
    if ('generation' in job) return { text: textIn(known, job.generation.key)! };
    const scores = job.sequences.map(({ key }) => likelihoodIn(known, key)!);
    if (task.kind === 'loglikelihood_rolling') return { losses: Float64Array.from(scores, ([value]) => -value) };
    const [logLikelihood, isGreedy] = scores[0]!;
    return { logLikelihood, isGreedy };
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
