// What a run will take, before it starts: parameters, steps, learning rates, memory, disk, and what is wrong with it.
import { existsSync, statfsSync } from 'node:fs';
import { totalmem } from 'node:os';
import { dirname } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { listFiles } from '@stickbreaking/data';
import { countParameters, estimateMemory } from '@stickbreaking/model';
import { openRunTokenizer } from './data.js';
import { isUserError, TrainError } from './errors.js';
import { formatBytes, formatCount } from './progress.js';
import { type RunConfig, resolveStages, type Stage } from './run_config.js';
import { learningRate, warmupTokensOf } from './schedule.js';

export interface Plan {
  parameters: number;
  backend: string | null;
  steps: number;
  tokens: number;
  stages: StagePlan[];
  /** estimate for training: parameters, gradients, optimizer and activations of a micro-batch */
  memoryBytes: number;
  /** this machine's memory */
  memoryAvailableBytes: number;
  /** checkpoints kept at once, one being written, and tokenized text (an estimate from the files' sizes) */
  diskBytes: number;
  checkpointBytes: number;
  diskAvailableBytes: number;
  /** one line each; the run starts only without any */
  problems: string[];
}

export interface StagePlan {
  name: string;
  steps: number;
  tokens: number;
  contextLength: number;
  batchTokens: number;
  microBatchTokens: number;
  schedule: string;
  learningRates: { step: number; learningRate: number }[];
}

/** Checks everything that can be checked without training; nothing is written. */
export async function planRun(run: RunConfig): Promise<Plan> {
  const problems: string[] = [];
  const check = async <T>(action: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await action();
    } catch (error) {
      if (!isUserError(error)) throw error;
      if (!problems.includes(error.message)) problems.push(error.message);
      return undefined;
    }
  };
  const stages = resolveStages(run);
  const backend = await check(() => selectBackend(run.backend));
  await check(() => openRunTokenizer(run));
  let textBytes = 0;
  for (const source of [...run.stages.flatMap((stage) => stage.data), ...(run.validation?.data ?? [])]) {
    const files = (await check(() => listFiles(source))) ?? [];
    for (const { size, format } of files) textBytes += size * (format === 'jsonl.zst' || format === 'parquet' ? 3 : 1);
  }
  await check(() => checkMemory(run, stages, backend?.name ?? 'cpu'));

  const parameters = countParameters(run.model);
  const checkpointBytes = parameters * 4 * 3;
  const { keepLast, keepBest } = run.checkpoint;
  const kept = keepLast + 1 + (keepBest && run.validation ? 1 : 0);
  const tokenBytes = run.model.vocabSize > 65_536 ? 4 : 2;
  const diskBytes = checkpointBytes * kept + (textBytes / 4) * tokenBytes;
  const diskAvailableBytes = freeDisk(run.runDirectory);
  if (diskBytes > diskAvailableBytes) {
    problems.push(
      `the run needs about ${formatBytes(diskBytes)} of disk and ${formatBytes(diskAvailableBytes)} are free at ${run.runDirectory}; free some, keep fewer checkpoints or choose another runDirectory.`,
    );
  }
  return {
    parameters,
    backend: backend ? backend.description : null,
    steps: stages.reduce((sum, stage) => sum + stage.steps, 0),
    tokens: stages.reduce((sum, stage) => sum + stage.steps * stage.batchTokens, 0),
    stages: stages.map((stage, i) => planStage(stages, stage, i)),
    memoryBytes: memoryOf(run, stages),
    memoryAvailableBytes: machineMemory(),
    diskBytes,
    checkpointBytes,
    diskAvailableBytes,
    problems,
  };
}

function planStage(stages: readonly Stage[], stage: Stage, index: number): StagePlan {
  const { name, steps, contextLength, batchTokens, microBatchTokens, schedule } = stage;
  const warm = Math.min(steps, Math.ceil(warmupTokensOf(stage) / batchTokens));
  const points = [0, warm - 1, Math.floor(steps / 4), Math.floor(steps / 2), Math.floor((3 * steps) / 4), steps - 1];
  const chosen = [...new Set(points)].filter((step) => step >= 0).sort((a, b) => a - b);
  return {
    name,
    steps,
    tokens: steps * batchTokens,
    contextLength,
    batchTokens,
    microBatchTokens,
    schedule: schedule.kind,
    learningRates: chosen.map((step) => ({ step: step + 1, learningRate: learningRate(stages, index, step) })),
  };
}

function memoryOf(run: RunConfig, stages: readonly Stage[]): number {
  return Math.max(
    ...stages.map(({ microBatchTokens }) => estimateMemory(run.model, { tokens: microBatchTokens, training: true })),
  );
}

/** The memory this process may use: the machine's, or its container's share. */
function machineMemory(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/** Throws a TrainError when the run cannot fit into the memory. A GPU's own memory is its backend's affair. */
export function checkMemory(run: RunConfig, stages: readonly Stage[], backend: string): void {
  if (backend === 'cuda' || backend === 'webgpu') return;
  const [needed, there] = [memoryOf(run, stages), machineMemory()];
  if (needed <= there) return;
  const largest = Math.max(...stages.map((stage) => stage.microBatchTokens));
  throw new TrainError(
    `training needs about ${formatBytes(needed)} of memory with micro-batches of ${largest} tokens and this machine has ${formatBytes(there)}; lower contextLength and microBatchTokens, or take a smaller model.`,
  );
}

function freeDisk(path: string): number {
  let existing = path;
  while (!existsSync(existing) && dirname(existing) !== existing) existing = dirname(existing);
  const { bavail, bsize } = statfsSync(existing);
  return bavail * bsize;
}

/** The plan as people read it. */
export function formatPlan(plan: Plan): string {
  const lines = [
    `parameters  ${plan.parameters.toLocaleString('en-US')}`,
    `backend     ${plan.backend ?? 'none'}`,
    `memory      ${formatBytes(plan.memoryBytes)} needed, ${formatBytes(plan.memoryAvailableBytes)} on this machine`,
    `disk        ${formatBytes(plan.diskBytes)} needed (a checkpoint is ${formatBytes(plan.checkpointBytes)}), ${formatBytes(plan.diskAvailableBytes)} free`,
    `steps       ${plan.steps.toLocaleString('en-US')} over ${formatCount(plan.tokens)} tokens`,
  ];
  for (const stage of plan.stages) {
    lines.push(
      `${stage.name}: ${stage.steps.toLocaleString('en-US')} steps of ${formatCount(stage.batchTokens)} tokens (micro-batches of ${formatCount(stage.microBatchTokens)}), context ${stage.contextLength.toLocaleString('en-US')}, ${stage.schedule}`,
    );
    for (const { step, learningRate } of stage.learningRates) {
      lines.push(`  step ${step.toLocaleString('en-US').padStart(11)}  learning rate ${learningRate.toExponential(3)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}
