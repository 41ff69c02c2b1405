/** One run of the MQRAR study: a model trained on sequences generated as they are needed, then tested. */
import { join } from 'node:path';
import { type AttentionMap, attentionMaps } from '@stickbreaking/eval';
import type { LlamaConfigInput, LlamaModel } from '@stickbreaking/model';
import { readMetrics, type StageData, type TrainOptions, train } from '@stickbreaking/train';
import { z } from 'zod';
import type { ArmContext } from '../study.js';
import type { MqrarTraining } from './config.js';
import { answerPositions, type MqrarTask, mqrarBatch, paperExample, parseExample } from './task.js';

export interface MqrarSettings {
  task: MqrarTask;
  model: LlamaConfigInput;
  training: MqrarTraining;
  learningRate: number;
  seed: number;
  /** Draw the attention on the paper's example. */
  drawn: boolean;
}

const numbers = z.array(z.number());
const head = { layer: z.number(), head: z.number() };

const ExampleResultSchema = z.object({
  labels: z.array(z.string()),
  /** For each question: where its answer stands, and the model's answer. */
  questions: z.array(
    z.object({ position: z.number(), answerPosition: z.number(), expected: z.string(), answered: z.string() }),
  ),
  maps: z.array(z.object({ ...head, weights: numbers, remainder: numbers })),
  /**
   * On fresh sequences, by layer: the mean weight that questions give to their answer's place and to places of older
   * values of the same variable.
   */
  retrieval: z.array(z.object({ ...head, answer: z.number(), older: z.number() })),
});

export type ExampleResult = z.infer<typeof ExampleResultSchema>;

export const MqrarResultSchema = z.object({
  parameters: z.number(),
  /** Share of correct answers on sequences that were not trained on. */
  accuracy: z.number(),
  steps: z.number(),
  tokens: z.number(),
  /** Share of correct answers in the course of training. */
  checks: z.array(z.object({ step: z.number(), accuracy: z.number() })),
  /** Mean loss of the steps up to each of those. */
  losses: z.array(z.object({ step: z.number(), loss: z.number() })),
  example: ExampleResultSchema.optional(),
});

export type MqrarResult = z.infer<typeof MqrarResultSchema>;

export async function runMqrar(settings: MqrarSettings, context: ArmContext): Promise<MqrarResult | undefined> {
  const { task, training } = settings;
  const solved = new AbortController();
  const options = trainOptions(settings, context, solved);
  const { finished, model, state } = await train(options);
  try {
    if (!finished && !solved.signal.aborted) return undefined;
    const { testSequences } = training;
    const accuracy = await accuracyOf(model, task, testSequences, 'final', settings.seed);
    const drawn = settings.drawn ? { example: drawExample(model, task, settings.seed) } : {};
    const parameters = [...model.parameters.values()].reduce((sum, { size }) => sum + size, 0);
    const { step: steps, tokens } = state;
    return {
      parameters,
      accuracy,
      steps,
      tokens,
      ...history(join(context.directory, 'run', 'metrics.jsonl')),
      ...drawn,
    };
  } finally {
    model.dispose();
  }
}

function trainOptions(settings: MqrarSettings, context: ArmContext, solved: AbortController): TrainOptions {
  const { task, training, learningRate, seed } = settings;
  const batchTokens = training.sequences * task.sequenceLength;
  const { warmupSteps, checkEvery, fewestPairs } = training;
  const trained = fewestPairs === undefined ? task : { ...task, fewestPairs: Math.min(fewestPairs, task.pairs) };
  return {
    model: settings.model,
    seed,
    directory: join(context.directory, 'run'),
    resume: true,
    optimizer: { weightDecay: training.weightDecay },
    // A learning rate that is too high belongs to the sweep: its run goes on, without the steps that went wrong.
    maxNonFiniteSteps: training.steps,
    identity: { task: trained, solvedAt: training.solvedAt },
    checkpoints: { everySteps: 4 * checkEvery, keepLast: 1, keepBest: false },
    arithmetic: context.backend.arithmetic,
    signal: AbortSignal.any([context.signal, solved.signal]),
    stages: [
      {
        schedule: { kind: 'cosine', peak: learningRate, warmupSteps },
        steps: training.steps,
        contextLength: task.sequenceLength,
        batchTokens,
        microBatchTokens: batchTokens,
        data: mqrarData(trained, training.sequences, seed),
      },
    ],
    // What validation measures here is the share of wrong answers.
    validation: {
      everySteps: checkEvery,
      loss: async (model) => 1 - (await accuracyOf(model, task, training.checkSequences, 'check', seed)),
    },
    hooks: {
      onNotice: context.notice,
      onStep: ({ step, loss }) => {
        if (step % 10 === 0) context.say(`step ${step}/${training.steps}, loss ${loss?.toFixed(3) ?? 'not finite'}`);
      },
      onValidation: async ({ validationLoss }, model) => {
        if (1 - validationLoss < training.solvedAt) return;
        // The few sequences of a check may flatter: the final ones decide.
        const accuracy = await accuracyOf(model, task, training.testSequences, 'final', seed);
        if (accuracy >= training.solvedAt) solved.abort();
      },
    },
  };
}

/** Batch after batch of fresh sequences; where it stands is the number of the next. */
function mqrarData(task: MqrarTask, sequences: number, seed: number): StageData {
  return {
    open: (_stage, cursor) => {
      let index = (cursor as { index: number } | undefined)?.index ?? 0;
      return {
        next: () => mqrarBatch(task, sequences, 'train', seed, index++),
        cursor: () => ({ index }),
      };
    },
  };
}

/** Sequences that run through the model together when it is asked. */
const TOGETHER = 8;

/** Share of questions whose most likely token is the answer. */
export async function accuracyOf(
  model: LlamaModel,
  task: MqrarTask,
  sequences: number,
  stream: string,
  seed: number,
): Promise<number> {
  const { vocabSize } = model.config;
  let [right, asked] = [0, 0];
  for (let first = 0; first < sequences; first += TOGETHER) {
    const { tokens, targets, cuSeqlens } = mqrarBatch(task, Math.min(TOGETHER, sequences - first), stream, seed, first);
    const logits = model.forward(tokens, { cuSeqlens });
    const values = await logits.data();
    logits.dispose();
    for (const [position, target] of targets.entries()) {
      if (target < 0) continue;
      asked++;
      if (largestOf(values.subarray(position * vocabSize, (position + 1) * vocabSize) as Float32Array) === target)
        right++;
    }
  }
  return right / asked;
}

function largestOf(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

function drawExample(model: LlamaModel, task: MqrarTask, seed: number): ExampleResult {
  const { tokens, targets, labels } = parseExample(paperExample);
  const answers = answerPositions({ tokens, targets });
  const logits = model.forward(tokens);
  const values = logits.dataSync() as Float32Array;
  logits.dispose();
  const { vocabSize } = model.config;
  const name = (token: number) =>
    token < task.variables ? String.fromCharCode(65 + token) : `${token - task.variables}`;
  const questions = Array.from(answers).flatMap((answerPosition, position) => {
    if (answerPosition < 0) return [];
    const answered = name(largestOf(values.subarray(position * vocabSize, (position + 1) * vocabSize)));
    return [{ position, answerPosition, expected: name(targets[position]!), answered }];
  });
  const maps = attentionMaps(model, tokens).map(({ layer, head, weights, remainder }) => ({
    layer,
    head,
    weights: Array.from(weights, rounded),
    remainder: Array.from(remainder, rounded),
  }));
  return { labels, questions, maps, retrieval: retrievalOf(model, task, seed) };
}

const rounded = (value: number) => Number(value.toFixed(4));

/** Where questions of fresh sequences look: at the present value of their variable, or at older ones. */
function retrievalOf(model: LlamaModel, task: MqrarTask, seed: number): ExampleResult['retrieval'] {
  const sums = new Map<string, { layer: number; head: number; answer: number; older: number }>();
  const sequences = 16;
  let questions = 0;
  for (let s = 0; s < sequences; s++) {
    const { tokens, targets } = mqrarBatch(task, 1, 'retrieval', seed, s);
    const answers = answerPositions({ tokens, targets });
    questions += answers.filter((position) => position >= 0).length;
    for (const map of attentionMaps(model, tokens)) {
      const key = `${map.layer}.${map.head}`;
      const sum = sums.get(key) ?? { layer: map.layer, head: map.head, answer: 0, older: 0 };
      addRetrieval(sum, map, tokens, answers);
      sums.set(key, sum);
    }
  }
  return [...sums.values()].map((sum) => ({
    ...sum,
    answer: rounded(sum.answer / questions),
    older: rounded(sum.older / questions),
  }));
}

function addRetrieval(
  sum: { answer: number; older: number },
  { weights }: AttentionMap,
  tokens: Int32Array,
  answers: Int32Array,
): void {
  for (const [question, answer] of answers.entries()) {
    if (answer < 0) continue;
    const row = weights.subarray(question * tokens.length, (question + 1) * tokens.length);
    sum.answer += row[answer]!;
    for (let variable = 0; variable < answer - 1; variable += 2) {
      if (tokens[variable] === tokens[question]) sum.older += row[variable + 1]!;
    }
  }
}

/** The run's course, from its metrics file: complete also where it was interrupted. */
function history(file: string): Pick<MqrarResult, 'checks' | 'losses'> {
  const checks: MqrarResult['checks'] = [];
  const losses: MqrarResult['losses'] = [];
  let since: number[] = [];
  for (const line of readMetrics(file)) {
    if ('validationLoss' in line) {
      checks.push({ step: line.step, accuracy: 1 - line.validationLoss });
      const mean = since.reduce((total, loss) => total + loss, 0) / Math.max(1, since.length);
      losses.push({ step: line.step, loss: mean });
      since = [];
    } else if ('loss' in line && line.loss !== null) since.push(line.loss);
  }
  return { checks, losses };
}
