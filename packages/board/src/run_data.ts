/** What the board and the report know of a run, as it goes to the page: plain JSON. */

/** `training` while a process has the run's lock; `finished` after its last step; otherwise `stopped`. */
export type RunState = 'training' | 'finished' | 'stopped';

/** What the list of runs shows. */
export interface RunSummary {
  /** The run's directory as it was found, which tells it from the others. */
  name: string;
  state: RunState;
  /** The last step, and of how many. */
  step: number;
  totalSteps: number | undefined;
  /** Tokens seen, and of how many. */
  tokens: number;
  totalTokens: number | undefined;
  /** The last ones, in nats per token. */
  loss: number | null | undefined;
  validationLoss: number | null | undefined;
  tokensPerSecond: number | undefined;
  /** Grows when lines that were there before are no more: what is known of its metrics is void then. */
  generation: number;
  /** How many lines of metrics there are. */
  lines: number;
  /** Grows when anything else of the run changes: its checkpoints, samples, evaluations, configuration. */
  edition: number;
}

/** Metrics that are written together, in columns; null where a line does not have one, or it was not finite. */
export interface MetricsTable {
  step: number[];
  tokens: number[];
  /** Seconds that the run has worked. */
  seconds: number[];
  values: Record<string, (number | null)[]>;
}

/** A run's metrics from line `from` on, by the kind of line: `steps`, `validation` and whatever else a run writes. */
export interface RunMetrics {
  generation: number;
  from: number;
  lines: number;
  tables: Record<string, MetricsTable>;
}

/** A checkpoint on disk. */
export interface CheckpointFiles {
  name: string;
  step: number;
  bytes: number;
  /** ISO 8601, in UTC */
  time: string;
  isLatest: boolean;
  isBest: boolean;
}

/** A text that the model wrote while it was trained. */
export interface Sample {
  step: number;
  prompt: string;
  text: string;
}

/** One figure of an evaluation. */
export interface Score {
  /** What was measured, such as `arc_easy` or `perplexity at 2048 tokens`. */
  task: string;
  metric: string;
  value: number;
  standardError: number | undefined;
}

/** What was measured of a checkpoint. */
export interface Evaluation {
  /** Its file in the run's directory. */
  file: string;
  /** Of the checkpoint; undefined where the file does not say. */
  step: number | undefined;
  scores: Score[];
}

/** All else of a run. */
export interface RunDetails {
  edition: number;
  /** The run's file with all defaults, or what its newest checkpoint says where there is no log. */
  config: unknown;
  backend: string | undefined;
  checkpoints: CheckpointFiles[];
  samples: Sample[];
  evaluations: Evaluation[];
}

/** A run in whole, as the report holds it. */
export interface WholeRun {
  summary: RunSummary;
  metrics: RunMetrics;
  details: RunDetails;
}
