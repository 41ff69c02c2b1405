/** Asks a model everything that tasks ask, and gives each task its answers. */
import { UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import type { LlamaModel } from '@stickbreaking/model';
import { scorerOf, type TokenScorer } from '../scoring.js';
import type { BuiltTask } from '../tasks/build.js';
import { rollingWindows } from '../tasks/rolling.js';
import type { DocumentScore, TaskResult } from '../tasks/scores.js';
import { type AnswerOf, type RequestKind, type RequestOf, requestsOf, scoreExamples } from '../tasks/task.js';
import type { Answers } from './answers.js';
import { type GenerationJob, generateText, generationJob } from './generate.js';
import { packsOf, type Sequence, scorePack, sequenceOf } from './packs.js';
import { encodePairs, encodePrompts, encodeWholeTexts, type TokenRules } from './tokens.js';

/** A model with what it reads. */
export interface AskedModel {
  model: Pick<LlamaModel, 'tokenLosses' | 'generate'>;
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
    scorerOf(asked.model as LlamaModel),
    options,
  );
  await generateAll(
    all.flatMap((job) => ('generation' in job ? [job.generation] : [])),
    asked,
    options,
  );
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

async function scoreSequences(sequences: readonly Sequence[], score: TokenScorer, options: AskOptions): Promise<void> {
  const { answers, batchTokens, onProgress, signal } = options;
  const isKnown = ({ key }: Sequence) => answers.get(key) !== undefined;
  const packs = packsOf(sequences, batchTokens).filter((pack) => !pack.sequences.every(isKnown));
  const total = packs.reduce((sum, { tokens }) => sum + tokens, 0);
  let done = 0;
  for (const pack of packs) {
    signal?.throwIfAborted();
    onProgress?.(done, total, 'tokens scored');
    const likelihoods = await scorePack(score, pack);
    answers.add(pack.sequences.flatMap((one, i) => (isKnown(one) ? [] : [[one.key, likelihoods[i]!] as const])));
    done += pack.tokens;
  }
  if (total > 0) onProgress?.(done, total, 'tokens scored');
}

async function generateAll(jobs: readonly GenerationJob[], asked: AskedModel, options: AskOptions): Promise<void> {
  const { answers, onProgress, signal } = options;
  const each = new Map(jobs.map((job) => [job.key, job]));
  const open = [...each.values()].filter(({ key }) => answers.get(key) === undefined);
  for (const [done, job] of open.entries()) {
    signal?.throwIfAborted();
    onProgress?.(done, open.length, 'answers generated');
    answers.add([[job.key, await generateText(asked.model, asked.tokenizer, job)]]);
  }
  if (open.length > 0) onProgress?.(open.length, open.length, 'answers generated');
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
