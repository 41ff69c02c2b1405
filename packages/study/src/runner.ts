/**
 * Runs a study's arms, one after the other or several at once: skips what is done, keeps each result, and updates the
 * report after each arm.
 */
import { EXIT, UserError } from '@stickbreaking/base';
import { lockOrRefuse, withLock } from '@stickbreaking/base/node';
import type { SelectedBackend } from '@stickbreaking/core';
import { RefusedCheckpoint } from '@stickbreaking/model';
import { environmentOf } from './environment.js';
import { type ArmRecord, StudyFolder } from './folder.js';
import { runTogether, type StartArm } from './jobs.js';
import { publish } from './publish.js';
import type { Arm, ArmContext, Study, StudyConfig } from './study.js';

export interface RunnerOptions {
  backend: SelectedBackend;
  signal: AbortSignal;
  /** The command line, for the report. */
  commandLine: string;
  /** The file of the command. */
  command: string;
  /** Whether to run this arm now; others remain to be run later. Default: all. */
  wanted?: (id: string) => boolean;
  /** Arms at once, each started elsewhere. Default: one after the other, here. */
  together?: { jobs: number; start: StartArm };
  /** A line that stays. */
  log(line: string): void;
  /** A line that the next one may replace. */
  say(text: string): void;
}

/** The state of a study's folder against its configuration. */
export interface Standing {
  folder: StudyFolder;
  arms: Arm[];
  records: Map<string, ArmRecord>;
  results: Map<string, unknown>;
  /** Arms still to be run. */
  open: Arm[];
}

/** What is done and what is not. @throws UserError if the folder belongs to another study */
export function standingOf(study: Study, config: StudyConfig): Standing {
  const arms = study.arms(config);
  const folder = StudyFolder.open(config.output, study);
  const records = new Map<string, ArmRecord>();
  for (const arm of arms) {
    const record = folder.read(arm);
    if (record) records.set(arm.id, record);
  }
  const results = new Map([...records].map(([id, { result }]) => [id, result]));
  const open = arms.filter((arm) => !records.has(arm.id) && !study.whySkipped?.(arm, results, config));
  return { folder, arms, records, results, open };
}

/** Takes what was done elsewhere into the study's folder; `log` is told what. @throws UserError where a folder is no such study's */
export function takeResults(
  study: Study,
  config: StudyConfig,
  directories: readonly string[],
  log: (line: string) => void,
): void {
  const folder = StudyFolder.open(config.output, study);
  folder.create();
  const release = lockOrRefuse(folder.directory, 'trains');
  try {
    for (const directory of directories) {
      const { taken, unlike } = folder.takeFrom(directory, study.arms(config));
      log(`${directory}: ${taken.length} arms taken${taken.length > 0 ? ` (${taken.join('; ')})` : ''}`);
      const shown = unlike.map(({ id, key }) => `${id} (${key})`).join('; ');
      if (unlike.length > 0) log(`${directory}: left there, since they were run with other settings: ${shown}`);
    }
  } finally {
    release();
  }
}

/** Runs what is not done. Returns whether everything is done then. */
export async function runStudy(study: Study, config: StudyConfig, options: RunnerOptions): Promise<boolean> {
  const standing = standingOf(study, config);
  const { folder } = standing;
  folder.create();
  const release = lockOrRefuse(folder.directory, 'trains');
  try {
    await unlessStopped(options.signal, () => runArms(study, config, standing, options));
  } finally {
    release();
  }
  await publishStanding(study, config, standing, options.commandLine);
  return missingArms(study, config, standing).length === 0;
}

async function runArms(study: Study, config: StudyConfig, standing: Standing, options: RunnerOptions): Promise<void> {
  const { arms, records, results } = standing;
  const { signal, log, together } = options;
  const shared = sharedContext(standing, options);
  if (records.size > 0) log(`${records.size} of ${arms.length} arms are done already.`);
  const wanted = options.wanted ?? (() => true);
  const next = standing.open.filter(({ id }) => wanted(id));
  const prepared = next.length > 0 ? await study.prepare(config, shared, next) : undefined;
  const placed = (arm: Arm) => `[${arms.indexOf(arm) + 1}/${arms.length}] ${arm.id}`;
  const toldBy = (name: string) => ({
    say: (text: string) => options.say(`${name}: ${text}`),
    notice: (line: string) => log(`${name}: ${line}`),
  });
  const isNeeded = (arm: Arm) => {
    const whySkipped = study.whySkipped?.(arm, results, config);
    if (whySkipped) log(`${placed(arm)}: skipped: ${whySkipped}`);
    return !whySkipped;
  };
  const done = async (arm: Arm, record: ArmRecord) => {
    records.set(arm.id, record);
    results.set(arm.id, record.result);
    log(`${placed(arm)}: done in ${record.seconds.toFixed(0)} s`);
    await publishStanding(study, config, standing, options.commandLine);
  };
  if (together) {
    await runTogether({
      arms: next,
      jobs: together.jobs,
      signal,
      after: (arm) => study.after?.(arm, config) ?? [],
      wanted: isNeeded,
      start: (arm, slot) => together.start(arm, slot, toldBy(placed(arm)), signal),
      done: (arm) => done(arm, standing.folder.read(arm)!),
    });
    return;
  }
  for (const arm of arms) {
    if (records.has(arm.id) || signal.aborted || !wanted(arm.id) || !isNeeded(arm)) continue;
    const record = await runArm(study, config, standing, options, { ...shared, ...toldBy(placed(arm)) }, arm, prepared);
    if (record === undefined) break;
    await done(arm, record);
  }
}

function sharedContext({ folder, arms }: Standing, { backend, signal, say, log, command }: RunnerOptions) {
  const folderOf = (id: string) => folder.armDirectory(arms.find((arm) => arm.id === id)!);
  return { shared: folder.shared, backend, signal, say, notice: log, command, folderOf };
}

/**
 * Runs an arm and keeps its result; undefined when the signal stopped it. Its folder has a lock of its own: where a study
 * was killed, the process of an arm may still be saving when the study is started again.
 */
async function runArm(
  study: Study,
  config: StudyConfig,
  { folder }: Standing,
  options: RunnerOptions,
  shared: Omit<ArmContext, 'directory'>,
  arm: Arm,
  prepared: unknown,
): Promise<ArmRecord | undefined> {
  const directory = folder.openArm(arm);
  const work = async () => {
    const done = folder.read(arm);
    if (done) return done;
    const start = performance.now();
    const result = await study.run(arm, config, { ...shared, directory }, prepared).catch((error) => {
      throw refusedOfOther(error, directory, folder);
    });
    if (result === undefined) return undefined;
    const seconds = (performance.now() - start) / 1000;
    const environment = environmentOf(options.backend.description);
    const record: ArmRecord = { ...arm, seconds, finished: new Date().toISOString(), environment, result };
    folder.write(arm, record);
    return record;
  };
  const onWait = (holder: number) => shared.notice(`waiting for process ${holder}, which is at work in ${directory}`);
  return withLock(directory, { signal: options.signal, onWait }, work);
}

/** A checkpoint of another arm that is refused is made again where that arm is: it has no other that could take its place. */
function refusedOfOther(error: unknown, directory: string, folder: StudyFolder): unknown {
  const { cause } = (error ?? {}) as Error;
  const refused = [error, cause].find((one) => one instanceof RefusedCheckpoint);
  const other = refused && folder.armOf(refused.directory);
  if (other === undefined || other === directory) return error;
  const message = `${refused!.message.replace(/\.$/, '')}; move ${other} away, and that arm is run again.`;
  return new UserError(message, { cause: refused, exitCode: EXIT.refused });
}

/** What is stopped while it waits or prepares throws the signal's reason, which is no failure: then undefined. */
async function unlessStopped<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (signal.aborted && error === signal.reason) return undefined;
    throw error;
  }
}

/**
 * Runs one arm of a study that another process leads (`together`): that one holds the study's lock and writes the report.
 * Returns whether it was done.
 */
export async function runOneArm(
  study: Study,
  config: StudyConfig,
  id: string,
  options: RunnerOptions,
): Promise<boolean> {
  const standing = standingOf(study, config);
  const arm = standing.arms.find((one) => one.id === id);
  if (!arm) throw new UserError(`the study has no arm '${id}'`);
  const shared = sharedContext(standing, options);
  const record = await unlessStopped(options.signal, async () => {
    const prepared = await study.prepare(config, shared, [arm]);
    return runArm(study, config, standing, options, shared, arm, prepared);
  });
  return record !== undefined;
}

function missingArms(study: Study, config: StudyConfig, { arms, records, results }: Standing): string[] {
  return arms.filter((arm) => !records.has(arm.id) && !study.whySkipped?.(arm, results, config)).map(({ id }) => id);
}

/** Writes the report of what there is; nothing where nothing is done. */
export async function publishStanding(
  study: Study,
  config: StudyConfig,
  standing: Standing,
  command: string,
): Promise<void> {
  const { folder, arms, records, results } = standing;
  if (records.size === 0) return;
  const inOrder = arms.flatMap(({ id }) => records.get(id) ?? []);
  const report = study.report(config, results);
  const missing = missingArms(study, config, standing);
  await publish(folder.results, { config, command, report, records: inOrder, missing });
}
