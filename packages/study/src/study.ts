/**
 * A study is a list of arms (one training or measurement each), what one arm does, and the report that compares them.
 * The runner (`runner.ts`) does the rest in the same way for all: it resumes, skips what is done, and writes the report.
 */

import type { SelectedBackend } from '@stickbreaking/core';
import type { Finding, ReportBlock } from '@stickbreaking/eval';
import type { z } from 'zod';

/** One piece of work whose result is kept. */
export interface Arm {
  /** Unique in the study and readable, such as `softmax+RoPE, 128 pairs, lr 1e-3`. */
  id: string;
  /** Everything the arm's result depends on, as plain JSON: if it changes, the arm is run again. */
  settings: Record<string, unknown>;
}

export interface ArmContext {
  /** The arm's own folder. */
  directory: string;
  /** A folder that the study's arms share, such as for tokenized text. */
  shared: string;
  backend: SelectedBackend;
  /** Asks the arm to stop soon and to keep what there is. */
  signal: AbortSignal;
  /** Shows progress. */
  say(text: string): void;
  /** Tells of something out of the ordinary, which stays to be read. */
  notice(line: string): void;
  /** The folder of an arm that is done. */
  folderOf(id: string): string;
  /** The file of this command, to start a process of its own. */
  command: string;
}

/** A row of the CSV file. */
export type Row = Record<string, string | number>;

export interface StudyReport {
  title: string;
  /** Who expects what the findings speak of; default: the paper. */
  expectedBy?: string;
  findings: Finding[];
  blocks: ReportBlock[];
  rows: Row[];
}

export interface Study<Config extends StudyConfig = StudyConfig, Result = unknown, Prepared = unknown> {
  kind: string;
  schema: z.ZodType<Config>;
  /** What the result of an arm looks like when it is read again. */
  result: z.ZodType<Result>;
  /** @throws UserError where the configuration cannot be run */
  arms(config: Config): Arm[];
  /** Done once, before the first of `arms`, which are those that will be run; such as tokenizing text. */
  prepare(config: Config, context: Omit<ArmContext, 'directory'>, arms: readonly Arm[]): Promise<Prepared>;
  /** Why an arm is skipped, given the results so far; undefined if it must be run. */
  whySkipped?(arm: Arm, results: ReadonlyMap<string, Result>, config: Config): string | undefined;
  /** Ids of arms that must be done, or skipped, before this one is started. */
  after?(arm: Arm, config: Config): readonly string[];
  /** Whether it measures the machine, so that its arms cannot run at the same time. */
  measures?: boolean;
  /** The arm's result as plain JSON; undefined when the signal stopped it. */
  run(arm: Arm, config: Config, context: ArmContext, prepared: Prepared): Promise<Result | undefined>;
  report(config: Config, results: ReadonlyMap<string, Result>): StudyReport;
}

/** What every study's configuration has. */
export interface StudyConfig {
  study: string;
  output: string;
  backend: string;
}
