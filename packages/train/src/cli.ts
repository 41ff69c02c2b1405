/** sb-train: trains the model that a YAML file describes. */
import { EXIT } from '@stickbreaking/base';
import { runCommand, stopOnSignals } from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import { makePlan } from './plan.js';
import { formatPlan } from './plan_text.js';
import { runTraining } from './run.js';
import { loadRunConfig, shippedRuns } from './run_config.js';
import { watchRun } from './watch.js';

interface Arguments {
  _: (string | number)[];
  config: string;
  resume: boolean;
  verify: boolean;
  plan: boolean;
  json: boolean;
  backend: string | undefined;
}

export function main(argv: string[]): Promise<number> {
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .strict(false)
        .strictOptions() // what is no option is an override
        .parserConfiguration({ 'duplicate-arguments-array': false, 'parse-positional-numbers': false }) // the last counts
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
        .option('plan', { type: 'boolean', default: false, describe: 'check everything and say what would be done' })
        .option('json', { type: 'boolean', default: false, describe: 'with --plan: as JSON' })
        .option('backend', { type: 'string', describe: 'auto, native, cpu, cuda, …; default: the file’s, or auto' })
        .example('$0 --config 350m --plan', 'parameters, steps, memory')
        .example('$0 --config run.yaml seed=1 stages.0.schedule.peak=0.003', 'the file, but for two values')
        .epilogue(`Run files that come with it: ${shippedRuns.names().join(', ')}`) as never,
    run,
  );
}

async function run(args: Arguments): Promise<number> {
  const config = loadRunConfig(args.config, args._.map(String));
  const backend = await selectBackend(args.backend ?? config.backend);
  if (args.plan) {
    const plan = makePlan(config, backend, { resume: args.resume });
    process.stdout.write(args.json ? `${JSON.stringify(plan, null, 2)}\n` : formatPlan(plan));
    return plan.missing.length > 0 ? EXIT.unmet : EXIT.done;
  }
  const watch = watchRun(config, backend.description);
  const stop = stopOnSignals((signal) => watch.say(`${signal}: saving and leaving (once more to leave at once)`));
  try {
    const { hooks, onTokenize } = watch;
    const result = await runTraining(config, {
      resume: args.resume,
      verify: args.verify,
      arithmetic: backend.arithmetic,
      signal: stop.signal,
      hooks,
      onTokenize,
    });
    const { step, tokens } = result.state;
    const where = result.checkpoint ?? 'nothing, as no step was done';
    watch.say(`${result.finished ? 'done' : 'stopped'} after step ${step} (${tokens} tokens): ${where}`);
  } catch (error) {
    if (!stop.signal.aborted || (error as Error).name !== 'AbortError') throw error;
    watch.say('stopped before the first step; what was tokenized so far is kept');
  } finally {
    watch.close();
    stop.release();
  }
  return stop.exitCode;
}
