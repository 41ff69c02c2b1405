/** sb-study: trains and evaluates every arm of a study and writes its report. */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { EXIT, OptionError, UserError } from '@stickbreaking/base';
import {
  after,
  checkProcesses,
  jsonOption,
  printJson,
  progressLine,
  runCommand,
  stopOnSignals,
} from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import { hostMemory } from '@stickbreaking/model';
import { type ArmMessage, gpuNames, jobsFor, startInProcess } from './jobs.js';
import { loadStudy, shippedStudies } from './load.js';
import { tellParent } from './own_process.js';
import { publishStanding, type RunnerOptions, runOneArm, runStudy, standingOf, takeResults } from './runner.js';
import { measureHere } from './speed/measure.js';
import type { Study, StudyConfig } from './study.js';

interface Arguments {
  _: (string | number)[];
  config: string | undefined;
  backend: string | undefined;
  plan: boolean;
  reportOnly: boolean;
  timeLimit: number | undefined;
  only: string | undefined;
  skip: string | undefined;
  jobs: number | undefined;
  from: string[] | undefined;
  arm: string | undefined;
  measure: string | undefined;
  json: boolean;
}

export function main(argv: string[]): Promise<number> {
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .strict(false)
        .strictOptions() // what is no option is an override
        .scriptName('sb-study')
        .usage(
          '$0 --config FILE [key.path=value …]\n\nTrains and evaluates every arm of a study and writes its report. Stopped anywhere, the same command goes on.',
        )
        .option('config', { type: 'string', describe: 'the study’s YAML file, or one of the names below' })
        .option('backend', { type: 'string', describe: 'auto, cuda, native, cpu; default: the file’s' })
        .option('plan', { type: 'boolean', default: false, describe: 'list the arms and which are done; run nothing' })
        .option('report-only', { type: 'boolean', default: false, describe: 'write the report of what is done' })
        .option('time-limit', { type: 'number', describe: 'stop after this many minutes, to go on another time' })
        .option('only', { type: 'string', describe: 'run only arms whose name has this in it; several: a|b' })
        .option('skip', { type: 'string', describe: 'do not run arms whose name has this in it' })
        .option('jobs', {
          type: 'number',
          describe: 'arms at once, each in a process of its own; default: one on each GPU, or by cores and memory',
        })
        .option('from', {
          type: 'string',
          array: true,
          requiresArg: true,
          nargs: 1,
          describe:
            'take the arms that are done in this folder of the same study, run on another machine; several times',
        })
        .options(jsonOption)
        .option('arm', { type: 'string', hidden: true })
        .option('measure', { type: 'string', hidden: true })
        .epilogue(`Study files that come with it: ${shippedStudies.names().join(', ')}`) as never,
    run,
  );
}

async function run(args: Arguments): Promise<number> {
  if (args.measure !== undefined) {
    await measureHere(args.measure);
    return 0;
  }
  if (args.config === undefined)
    throw new UserError('Missing --config, the YAML file of a study (see --help).', { exitCode: EXIT.usage });
  if (args.timeLimit !== undefined && !(args.timeLimit > 0)) {
    throw new OptionError('--time-limit', args.timeLimit, 'minutes above 0');
  }
  if (args.jobs !== undefined) checkProcesses('--jobs', args.jobs);
  const { study, config } = loadStudy(args.config, args._.map(String));
  if ((args.jobs ?? 1) > 1 && study.measures) {
    throw new UserError(
      `The arms of a '${study.kind}' study measure the machine: they run one at a time, without --jobs.`,
    );
  }
  if (args.arm !== undefined) return oneArm(study, config, args.arm, args.backend);
  if (args.from) takeResults(study, config, args.from, (line) => process.stderr.write(`${line}\n`));
  if (args.plan) return plan(study, config, args.json);
  const given = process.argv.slice(2).filter((argument) => argument !== '--report-only');
  const commandLine = ['sb-study', ...given].map(quoted).join(' ');
  if (args.reportOnly) return await reportOnly(study, config, commandLine, args.json);
  const backend = await selectBackend(args.backend ?? config.backend);
  const gpus = backend.name === 'cuda' ? gpuNames(process.env.CUDA_VISIBLE_DEVICES, await countGpus()) : [];
  const machine = { gpus: gpus.length, cores: availableParallelism(), memory: hostMemory() };
  const jobs = args.jobs ?? (study.measures ? 1 : jobsFor(machine));
  const progress = progressLine();
  const log = (line: string) => {
    progress.clear();
    progress.say(line);
  };
  log(`${study.kind} on ${backend.description} (${backend.reason}), in ${config.output}`);
  const stop = stopOnSignals();
  const { timeLimit } = args;
  const forget = timeLimit === undefined ? undefined : after(timeLimit * 60_000, stop.stop);
  try {
    const { only = '', skip } = args;
    const named = (parts: string, id: string) => parts.split('|').some((part) => id.includes(part));
    const wanted = (id: string) => named(only, id) && !(skip && named(skip, id));
    const say = (text: string) => progress.show(text);
    const finished = await runStudy(study, config, {
      backend,
      signal: stop.signal,
      commandLine,
      command: ownFile(),
      wanted,
      ...(jobs > 1 ? { together: together(args, backend.name, jobs, gpus) } : {}),
      log,
      say,
    });
    progress.clear();
    if (args.json) printJson(standingJson(study, config));
    if (finished && args.json) return EXIT.done;
    if (finished) {
      process.stdout.write(`The report: ${config.output}/results/report.html\n`);
      return 0;
    }
    const why = stop.signal.aborted ? 'Stopped; the same command goes on' : 'Some arms are still to be run';
    const report = writtenReport(config);
    const soFar = report === null ? 'No arm is done yet, so that there is no report' : `So far: ${report}`;
    if (!args.json) process.stdout.write(`${why}. ${soFar}\n`);
    return stop.exitCode || EXIT.unfinished;
  } finally {
    forget?.();
    stop.release();
  }
}

const countGpus = async () => (await import('@stickbreaking/core/cuda')).countGpus();

function together({ config, _: overrides }: Arguments, backend: string, jobs: number, gpus: readonly string[]) {
  const args = [ownFile(), '--config', config!, '--backend', backend, ...overrides.map(String)];
  return { jobs, start: startInProcess(args, jobs, gpus) };
}

/** What a study with `--jobs` starts for each arm. */
async function oneArm(
  study: Study,
  config: StudyConfig,
  id: string,
  wantedBackend: string | undefined,
): Promise<number> {
  const backend = await selectBackend(wantedBackend ?? config.backend);
  const stop = stopOnSignals();
  process.on('disconnect', stop.stop); // whoever led the study is gone
  try {
    const options: RunnerOptions = {
      backend,
      signal: stop.signal,
      ...{ commandLine: '', command: ownFile() },
      log: (noticed) => tellParent<ArmMessage>({ noticed }),
      say: (said) => tellParent<ArmMessage>({ said }),
    };
    if (!(await runOneArm(study, config, id, options))) return stop.exitCode;
    tellParent<ArmMessage>({ done: true });
    return 0;
  } finally {
    stop.release();
    if (process.connected) process.disconnect();
  }
}

/** The report, null where there is none: it is written when the first arm is done. */
function writtenReport({ output }: StudyConfig): string | null {
  const report = `${output}/results/report.html`;
  return existsSync(report) ? report : null;
}

/** Where a study stands, as `--json` prints it. */
function standingJson(study: Study, config: StudyConfig) {
  const { arms, records, results, open } = standingOf(study, config);
  const described = arms.map(({ id }, i) => {
    const record = records.get(id);
    if (record) return { id, state: 'done', seconds: record.seconds };
    const why = study.whySkipped?.(arms[i]!, results, config);
    return why ? { id, state: 'skipped', why } : { id, state: 'to be run' };
  });
  return {
    ...{ kind: study.kind, output: config.output, finished: open.length === 0 },
    ...{ report: writtenReport(config), arms: described },
  };
}

function plan(study: Study, config: StudyConfig, json: boolean): number {
  const standing = standingJson(study, config);
  if (json) {
    printJson(standing);
    return EXIT.done;
  }
  for (const { id, state, seconds, why } of standing.arms) {
    const more = seconds === undefined ? (why === undefined ? '' : `: ${why}`) : ` in ${seconds.toFixed(0)} s`;
    process.stdout.write(`${id}: ${state}${more}\n`);
  }
  const done = standing.arms.filter(({ state }) => state === 'done').length;
  process.stdout.write(`${standing.arms.length} arms, ${done} done, in ${config.output}\n`);
  return EXIT.done;
}

async function reportOnly(study: Study, config: StudyConfig, commandLine: string, json: boolean): Promise<number> {
  const standing = standingOf(study, config);
  if (standing.records.size === 0) throw new UserError(`${config.output} has no finished arms to report on.`);
  await publishStanding(study, config, standing, commandLine);
  if (json) printJson(standingJson(study, config));
  else process.stdout.write(`The report: ${config.output}/results/report.html\n`);
  return EXIT.done;
}

/** The file that starts this command, to start it once more: in a bundle the one that was started. */
function ownFile(): string {
  const file = fileURLToPath(new URL('../bin/sb-study.js', import.meta.url));
  return existsSync(file) ? file : process.argv[1]!;
}

const quoted = (argument: string) => (/[\s"'$]/.test(argument) ? JSON.stringify(argument) : argument);
