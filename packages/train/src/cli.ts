/** sb-train: trains the model that a YAML file describes. */
import { basename } from 'node:path';
import { EXIT } from '@stickbreaking/base';
import { faultOf, parsing, printJson, runCommand, stopOnSignals } from '@stickbreaking/base/node';
import { type SelectedBackend, selectBackend } from '@stickbreaking/core';
import type { Collective, Shard } from './collective.js';
import { endingOf } from './ending.js';
import type { OpenTaskScorer } from './evaluation.js';
import { joinByNccl } from './parallel/gpu_world.js';
import { holdLeash } from './parallel/launch.js';
import { checkPermitted } from './parallel/permitted.js';
import { type Place, placeOf } from './parallel/place.js';
import { checkOptions, gpusAsked, type ParallelArguments, startProcesses, withProcesses } from './parallel/start.js';
import type { Watchdog } from './parallel/watchdog.js';
import { joinByMpi, type World } from './parallel/world.js';
import { makePlan } from './plan.js';
import { formatPlan } from './plan_text.js';
import { newestCheckpoint, runTraining } from './run.js';
import { fetchStart, loadRunConfig, type RunConfig, shippedRuns } from './run_config.js';
import { namingAnother } from './sound.js';
import type { TrainHooks } from './train_options.js';
import { watchRank, watchRun } from './watch.js';

interface Arguments extends ParallelArguments {
  _: (string | number)[];
  config: string;
  resume: boolean;
  verify: boolean;
  adviseNoVerify: boolean;
  plan: boolean;
  json: boolean;
  backend: string | undefined;
}

/** What the command is given by whoever starts it. */
export interface Wiring {
  /** Opens what scores tasks; undefined where nothing is installed that does. */
  taskScorer?(): Promise<OpenTaskScorer | undefined>;
}

export function main(argv: string[], wiring: Wiring = {}): Promise<number> {
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .strict(false)
        .strictOptions() // what is no option is an override
        .parserConfiguration({ ...parsing, 'duplicate-arguments-array': false }) // the last counts
        .scriptName('sb-train')
        .usage('$0 --config FILE [--resume] [key.path=value …]\n\nTrains the model that a YAML file describes.')
        .option('config', {
          type: 'string',
          demandOption: true,
          describe: 'the run’s YAML file, or one of the names below',
        })
        .option('resume', { type: 'boolean', default: false, describe: 'go on from the newest checkpoint, if any' })
        .option('verify', {
          type: 'boolean',
          default: true,
          describe: 'check the checkpoint’s checksums before going on from it; --no-verify skips that',
        })
        .option('advise-no-verify', { type: 'boolean', default: true, hidden: true }) // not by who cannot pass it
        .option('plan', { type: 'boolean', default: false, describe: 'check everything and say what would be done' })
        .option('json', {
          type: 'boolean',
          default: false,
          describe: 'print the plan, or how the run ended, as JSON and nothing else',
        })
        .option('processes', { type: 'number', describe: 'run in so many processes on the CPU, through mpirun' })
        .option('gpus', { type: 'string', describe: 'run on so many GPUs of this machine, or all' })
        .option('nodes', { type: 'number', describe: 'of so many machines, each with as many GPUs …' })
        .option('node', { type: 'number', describe: '… this is the one with this number, from 0 …' })
        .option('master', { type: 'string', describe: '… and node 0 listens at this host:port' })
        .option('backend', { type: 'string', describe: 'auto, native, cpu, cuda, …; default: the file’s, or auto' })
        .example('$0 --config 350m --plan', 'parameters, steps, memory')
        .example('$0 --config run.yaml seed=1 stages.0.schedule.peak=0.003', 'the file, but for two values')
        .epilogue(`Run files that come with it: ${shippedRuns.names().join(', ')}`) as never,
    (args) => run(args, wiring),
  );
}

async function run(args: Arguments, wiring: Wiring): Promise<number> {
  const config = await namingAnother({}, () => loadConfigOf(args));
  const asked = args.backend ?? config.backend;
  if (args.plan) return await plan(args, config, asked, wiring);
  // Here, before there are several processes to say it.
  const permit = (backend: string, processes: number) => checkPermitted(config, backend, processes);
  const started = await startProcesses(args, asked, countGpus, permit);
  if ('exitCode' in started) return started.exitCode;
  const backend = await selectBackend(asked);
  const place = started.place ?? placeAlone(config, backend);
  permit(backend.name, place?.size ?? 1);
  if (!place) return await trainHere(args, config, backend, wiring);
  const world = await joinWorld(place, args, config, backend);
  try {
    const code = await trainHere(args, config, backend, wiring, world);
    await world.close();
    return code;
  } catch (error) {
    const { message, exitCode } = faultOf(error);
    return await world.watchdog.fail(message, exitCode);
  }
}

/** Undefined where it is as it is by default, and who started this cannot choose. */
const verifyOf = ({ verify, adviseNoVerify }: Arguments) => (verify && !adviseNoVerify ? undefined : verify);

async function loadConfigOf({ _: words, config, plan }: Arguments): Promise<RunConfig> {
  const overrides = words.map(String);
  if (!plan) await fetchStart(config, overrides);
  return loadRunConfig(config, overrides);
}

/** One GPU goes the way of several where it is to give the same bits as they. */
function placeAlone({ parallel: { orderedSums } }: RunConfig, { name }: SelectedBackend): Place | undefined {
  if (!orderedSums || name !== 'cuda') return undefined;
  const alone = { rank: 0, size: 1, localRank: 0, localSize: 1, launcher: 'torchrun' } as const;
  return { ...alone, master: { host: '127.0.0.1', port: 0 } };
}

/** How many GPUs this machine shows. */
const countGpus = async () => (await import('@stickbreaking/core/cuda')).countGpus();

async function plan(args: Arguments, config: RunConfig, asked: string, wiring: Wiring): Promise<number> {
  checkOptions(args, asked, true);
  const here = await gpusAsked(args, countGpus, false);
  const gpus = here && here * (args.nodes ?? 1);
  const processes = args.processes ?? placeOf(process.env)?.size;
  const backend = await selectBackend(withProcesses(args, asked));
  const openTaskScorer = config.evaluation && (await wiring.taskScorer?.());
  const options = { resume: args.resume, verify: verifyOf(args), gpus, processes, openTaskScorer };
  const made = await makePlan(config, backend, options);
  if (args.json) printJson(made);
  else process.stdout.write(formatPlan(made));
  return made.missing.length > 0 ? EXIT.unmet : EXIT.done;
}

/** Finds the other processes of the run, which must run the same. */
async function joinWorld(place: Place, args: Arguments, config: RunConfig, backend: SelectedBackend): Promise<World> {
  const latest = args.resume && newestCheckpoint(config);
  const identity = { ...config, resume: args.resume, backend: backend.name, checkpoint: latest || 'none' };
  const { orderedSums, ...shared } = config.parallel;
  if (backend.name === 'cuda') return await joinByNccl(place, backend, { ...shared, orderedSums, identity });
  // Weights are not shared out there: `checkPermitted`.
  const shard = shared.shard as Exclude<Shard, 'weights'> | undefined;
  return await joinByMpi(place, { ...shared, shard, identity });
}

async function trainHere(
  args: Arguments,
  config: RunConfig,
  backend: SelectedBackend,
  wiring: Wiring,
  world?: World,
): Promise<number> {
  const { rank, localRank } = world?.place ?? { rank: 0, localRank: 0 };
  const description = world ? `${backend.description}; ${world.description}` : backend.description;
  const watch = rank === 0 ? watchRun(config, description) : watchRank(config, rank);
  const stop = stopOnSignals((signal) => watch.say(`${signal}: saving and leaving (once more to leave at once)`));
  if (world) holdLeash(world.place, () => stop.stop());
  try {
    const { onTokenize } = watch;
    const result = await runTraining(config, {
      resume: args.resume,
      verify: localRank === 0 ? verifyOf(args) : false,
      arithmetic: backend.arithmetic,
      deviceMemory: backend.deviceMemory,
      signal: stop.signal,
      hooks: world ? watchedBy(world.watchdog, watch.hooks) : watch.hooks,
      onTokenize,
      openTaskScorer: config.evaluation && (await wiring.taskScorer?.()),
      ...(world ? { collective: world.collective } : {}),
    });
    const { step, tokens } = result.state;
    const where = result.checkpoint ?? 'nothing, as no step was done';
    watch.say(`${result.finished ? 'done' : 'stopped'} after step ${step} (${tokens} tokens): ${where}`);
    if (args.json && rank === 0) printJson(endingOf(config.output, result));
  } catch (error) {
    if (!stop.signal.aborted || (error as Error).name !== 'AbortError') throw error;
    watch.say('stopped before the first step; what was tokenized so far is kept');
    if (args.json && rank === 0) printJson(endingOf(config.output));
  } finally {
    watch.close();
    stop.release();
  }
  return world ? await commonExitCode(world.collective, stop.exitCode) : stop.exitCode;
}

/** A signal to one process stopped all: they end alike. */
async function commonExitCode(collective: Collective, own: number): Promise<number> {
  const { rank, size } = collective;
  const codes = await collective.sumNumbers(Array.from({ length: size }, (_, i) => (i === rank ? own : 0)));
  return Math.max(...codes);
}

/** The hooks, which keep the watchdog told of where the run is. */
function watchedBy(watchdog: Watchdog, hooks: TrainHooks): TrainHooks {
  return {
    ...hooks,
    onStart: async (...started) => {
      watchdog.step(started[1].step + 1);
      await hooks.onStart?.(...started);
    },
    onStep: async (metrics, model) => {
      watchdog.step(metrics.step + 1);
      await hooks.onStep?.(metrics, model);
    },
    onCheckpoint: async (directory) => {
      watchdog.checkpoint(basename(directory));
      await hooks.onCheckpoint?.(directory);
    },
  };
}
