// What people watch of a run: the progress line and notices on stderr, and train.log, one JSON object a line (pino).
import { dirname, join } from 'node:path';
import { formatCount, shown } from '@stickbreaking/base';
import { AppendFile, makeDirectory } from '@stickbreaking/base/node';
import type { PrepareProgress } from '@stickbreaking/data';
import { type Logger, pino } from 'pino';
import type { TaskScore } from './metrics.js';
import { Progress, type ProgressOptions } from './progress.js';
import { type RunConfig, stageSizes } from './run_config.js';
import type { TrainHooks } from './train_options.js';

export interface Watch {
  hooks: TrainHooks;
  onTokenize(progress: PrepareProgress): void;
  /** A line of its own, in the log too once the run has begun. */
  say(line: string): void;
  close(): void;
}

/** Each line is in the file when the call returns; one that cannot be written ends the run, and the file is named. */
function openLog(path: string, base: Record<string, unknown>): Logger {
  const file = new AppendFile(path);
  return pino({ base }, { write: (line) => file.append(line) });
}

/** What is kept of a process that is not the first, which alone speaks to people: its notices, in a file of its own. */
export function watchRank(config: RunConfig, rank: number): Watch {
  const file = join(config.output, 'ranks', `rank-${String(rank).padStart(3, '0')}.log`);
  const early: string[] = [];
  let log: Logger | undefined;
  const say = (line: string) => {
    if (log) log.info(line);
    else early.push(line);
  };
  const hooks: TrainHooks = {
    onStart: (_, { step }) => {
      makeDirectory(dirname(file));
      log = openLog(file, { pid: process.pid, rank });
      log.info({ step }, 'start');
      for (const line of early) log.info(line);
    },
    onNotice: say,
  };
  return { hooks, say, onTokenize: () => {}, close: () => {} };
}

export function watchRun(
  config: RunConfig,
  backend: string,
  stream: ProgressOptions['stream'] = process.stderr,
): Watch {
  const stages = stageSizes(config);
  const progress = new Progress({
    stream,
    totalSteps: stages.reduce((sum, { steps }) => sum + steps, 0),
    totalTokens: stages.reduce((sum, { steps, batchTokens }) => sum + steps * batchTokens, 0),
  });
  let log: Logger | undefined;
  const early: string[] = []; // noticed before the log was opened
  const say = (line: string) => {
    progress.line.say(line);
    log?.info(line);
  };
  const hooks: TrainHooks = {
    onStart: (model, state, resumedFrom, startedFrom) => {
      log = openLog(join(config.output, 'train.log'), { pid: process.pid });
      for (const line of early) log.warn(line);
      log.info({ config, backend, resumedFrom, startedFrom, step: state.step }, 'start');
      if (startedFrom) say(`starting from ${startedFrom}`);
      if (resumedFrom) say(`going on from ${resumedFrom} (${formatCount(state.tokens)} tokens)`);
      const parameters = [...model.parameters.values()].reduce((sum, { size }) => sum + size, 0);
      progress.line.say(`${formatCount(parameters)} parameters, ${backend}`);
    },
    onStep: (metrics) => progress.step(metrics),
    onValidation: ({ step, validationLoss }) => say(`step ${step}: validation loss ${validationLoss.toFixed(4)}`),
    onSample: ({ step, prompt, text }) => say(`step ${step}: ${shown(`${prompt}${text}`)}`),
    onEvaluating: (done, total, what) =>
      progress.line.show(`${((100 * done) / total).toFixed(0)} % of ${total} ${what}`),
    onEvaluation: ({ step, scores }) => say(`step ${step}: ${scores.map(scoreText).join(', ')}`),
    onCheckpoint: (directory) => log?.info({ directory }, 'checkpoint'),
    onNotice: (line) => {
      progress.line.say(line);
      if (log) log.warn(line);
      else early.push(line);
    },
  };
  return {
    hooks,
    say,
    onTokenize: (tokenizing) => {
      if (tokenizing.waitingFor)
        say(`waiting for process ${tokenizing.waitingFor}, which tokenizes into ${tokenizing.file}`);
      else progress.tokenizing(tokenizing);
    },
    close: () => progress.line.end(),
  };
}

/** Such as `arc_easy acc_norm 0.3100 ± 0.0464`. */
function scoreText({ task, metric, filter, value, standardError }: TaskScore): string {
  const name = filter === 'none' ? metric : `${metric} (${filter})`;
  return `${task} ${name} ${value.toFixed(4)}${standardError === null ? '' : ` ± ${standardError.toFixed(4)}`}`;
}
