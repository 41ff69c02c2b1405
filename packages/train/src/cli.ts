// sb-train: train a model as a YAML file says, continue a run, or print what a run would take.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import yargs from 'yargs';
import { isUserError, TrainError } from './errors.js';
import { formatPlan, planRun } from './plan.js';
import { formatCount, Progress } from './progress.js';
import { runTraining } from './run.js';
import { loadRunConfig, type RunConfig, resolveStages } from './run_config.js';

/**
 * Runs the command and returns its exit code: 0; 1 after one line on stderr that says what is wrong (with --plan, one
 * line for each problem); 130 or 143 when SIGINT or SIGTERM ended the run, after a checkpoint.
 */
export async function main(argv: string[]): Promise<number> {
  try {
    const { config, changes, resume, backend, plan, json } = await parse(argv);
    const run = loadRunConfig(config, backend ? [...changes, `backend=${backend}`] : changes);
    return plan ? await showPlan(run, json) : await train(run, resume);
  } catch (error) {
    if (!isUserError(error)) throw error;
    process.stderr.write(`sb-train: ${error.message}\n`);
    return 1;
  }
}

async function parse(argv: string[]) {
  const args = await yargs(argv)
    .scriptName('sb-train')
    .usage('$0 --config FILE [--resume] [--plan [--json]] [--backend NAME] [key.path=value …]')
    .options({
      config: { type: 'string', demandOption: true, describe: 'The run, as a YAML file' },
      resume: { type: 'boolean', default: false, describe: 'Go on from the newest checkpoint' },
      backend: { type: 'string', describe: 'auto, native, cuda, cpu, tensorflow or webgpu' },
      plan: { type: 'boolean', default: false, describe: 'Check everything, print what the run takes, train nothing' },
      json: { type: 'boolean', default: false, describe: 'With --plan: print an object' },
    })
    .parserConfiguration({ 'parse-positional-numbers': false })
    .strictOptions()
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new TrainError(`${message.replaceAll('\n', ' ')} (sb-train --help shows the options)`);
    })
    .parseAsync();
  return { ...args, changes: args._.map(String) };
}

async function showPlan(run: RunConfig, json: boolean): Promise<number> {
  const plan = await planRun(run);
  process.stdout.write(json ? `${JSON.stringify(plan, null, 2)}\n` : formatPlan(plan));
  for (const problem of plan.problems) process.stderr.write(`sb-train: ${problem}\n`);
  return plan.problems.length > 0 ? 1 : 0;
}

async function train(run: RunConfig, resume: boolean): Promise<number> {
  const stages = resolveStages(run);
  const progress = new Progress({
    stream: process.stderr,
    totalSteps: stages.reduce((sum, stage) => sum + stage.steps, 0),
    totalTokens: stages.reduce((sum, stage) => sum + stage.steps * stage.batchTokens, 0),
  });
  let log: pino.Logger | undefined; // opened at the first message: a run that is refused leaves nothing behind
  const logger = () => {
    log ??= openLog(run.runDirectory);
    return log;
  };
  const say = (line: string) => {
    progress.say(line);
    logger().info(line);
  };
  const interruption = new AbortController();
  const stopListening = onSignals((signal) => {
    progress.say(`${signal}: saving a checkpoint; a second signal leaves at once`);
    interruption.abort(signal);
  });
  try {
    const result = await runTraining(run, {
      resume,
      signal: interruption.signal,
      onMessage: say,
      onWarning: (line) => {
        progress.say(`warning: ${line}`);
        logger().warn(line);
      },
      onTokenize: ({ file, tokens }) => logger().info({ file, tokens }, 'tokenizing'),
      onStep: (metrics) => {
        progress.step(metrics);
        logger().debug(metrics, 'step');
      },
      onValidation: ({ step, validationLoss }) => say(`step ${step}: validation loss ${validationLoss.toFixed(4)}`),
      onCheckpoint: (directory) => logger().info({ directory }, 'checkpoint'),
    });
    say(`${result.outcome} at step ${result.step}, ${formatCount(result.tokens)} tokens: ${result.checkpoint}`);
    return interruption.signal.aborted ? exitCodeOf(interruption.signal.reason) : 0;
  } catch (error) {
    progress.end();
    if (interruption.signal.aborted && !isUserError(error)) return exitCodeOf(interruption.signal.reason);
    if (isUserError(error)) log?.error(error.message);
    throw error;
  } finally {
    stopListening();
  }
}

/** <run>/train.log, one JSON object a line, written at once so that a crash loses none. */
function openLog(runDirectory: string): pino.Logger {
  mkdirSync(runDirectory, { recursive: true });
  const destination = pino.destination({ dest: join(runDirectory, 'train.log'), sync: true });
  destination.on('error', () => {}); // a full disk is told by the files that matter
  return pino({ base: null }, destination);
}

const exitCodes: Record<string, number> = { SIGINT: 130, SIGTERM: 143 };
const exitCodeOf = (signal: unknown) => exitCodes[String(signal)] ?? 1;

/** The first signal is handed on; the second ends the process. Returns what stops listening. */
function onSignals(first: (signal: string) => void): () => void {
  let received = false;
  const listener = (signal: string) => {
    if (received) process.exit(exitCodeOf(signal));
    received = true;
    first(signal);
  };
  for (const signal of Object.keys(exitCodes)) process.on(signal, listener);
  return () => {
    for (const signal of Object.keys(exitCodes)) process.off(signal, listener);
  };
}
