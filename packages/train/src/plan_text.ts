// A plan as text.
import { formatBytes, formatCount, formatDuration } from '@stickbreaking/base';
import { painted } from '@stickbreaking/base/node';
import { besideTensors, type GpuPlan } from './gpu_plan.js';
import type { Plan, StagePlan } from './plan.js';

export function formatPlan(plan: Plan): string {
  const {
    parameters,
    activeParameters,
    backend,
    stages,
    memoryBytes,
    gpu,
    diskBytes,
    diskFreeBytes,
    sources,
    missing,
  } = plan;
  const { resumesFrom, startsFrom, checkpointVerified } = plan;
  const unverified = checkpointVerified === false ? ' (its checksums were not compared)' : '';
  const free = diskFreeBytes === null ? '' : ` (${formatBytes(diskFreeBytes)} free)`;
  const active = activeParameters < parameters ? `, of which a token passes ${grouped(activeParameters)}` : '';
  const lines = [
    `parameters   ${grouped(parameters)}${active}`,
    `backend      ${backend.description} (${backend.reason})`,
    `length       ${grouped(plan.steps)} steps, ${formatCount(plan.tokens)} tokens`,
    ...(plan.seconds === null
      ? []
      : [`time         about ${formatDuration(plan.seconds)}${gpu ? '' : ', as measured here'}`]),
    `memory       about ${formatBytes(memoryBytes)}${gpu ? gpuMemory(gpu) : ''}`,
    ...(gpu ? gpuLines(gpu) : []),
    `disk         about ${formatBytes(diskBytes)} for checkpoints and tokens${free}`,
    ...(resumesFrom ? [`goes on from ${resumesFrom}${unverified}`] : []),
    ...(startsFrom ? [`starts from  ${startsFrom}${unverified}`] : []),
    ...stages.flatMap(stageLines),
    ...(sources.length > 0 ? ['', 'text'] : []),
    ...sources.map(({ name, files, bytes, tokens }) => {
      const done = tokens === null ? 'not tokenized yet' : `${formatCount(tokens)} tokens`;
      return `  ${name}: ${files} ${files === 1 ? 'file' : 'files'}, ${formatBytes(bytes)}, ${done}`;
    }),
    ...(missing.length > 0 ? ['', painted('yellow', 'needed before it can start', process.stdout)] : []),
    ...missing.map((line) => `  ${line}`),
  ];
  return `${lines.join('\n')}\n`;
}

function gpuMemory({ gpus, besidesBytes, capacityBytes }: GpuPlan): string {
  const beside = `${formatBytes(besidesBytes)} for ${besideTensors(gpus)}`;
  return ` of each GPU's ${formatBytes(capacityBytes)}, beside ${beside}`;
}

function gpuLines({ gpus, trafficBytes, tokensPerSecond, utilisation }: GpuPlan): string[] {
  const share = `${(100 * utilisation).toFixed(0)} % model FLOPs utilisation`;
  const speed = `about ${formatCount(tokensPerSecond)} tokens/s on H100s`;
  if (gpus === 1) return [`speed        ${speed}, ${share}`];
  // The rate between GPUs is that within a host: more than eight, or several hosts, may not have it.
  return [
    `gpus         ${gpus}: each sends ${formatBytes(trafficBytes)} a step; ${speed} linked as in one host, ${share}`,
  ];
}

function stageLines(stage: StagePlan): string[] {
  const { name, steps, tokens, contextLength, batchTokens, microBatchTokens, schedule, learningRates } = stage;
  const accumulated = batchTokens / microBatchTokens;
  return [
    '',
    `${name}: ${grouped(steps)} steps, ${formatCount(tokens)} tokens, context ${contextLength}`,
    `  a step is ${grouped(batchTokens)} tokens, ${accumulated} × ${grouped(microBatchTokens)}`,
    `  ${schedule} learning rate: ${learningRates
      .map(({ step, learningRate }) => `${learningRate.toExponential(2)} at step ${grouped(step)}`)
      .join(', ')}`,
  ];
}

/** 1234567 → 1,234,567 */
const grouped = (value: number) => value.toLocaleString('en-US');
