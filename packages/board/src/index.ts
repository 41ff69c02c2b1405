export { createBoard } from './board.js';
export { findRuns } from './find_runs.js';
export { renderReport } from './report.js';
export type {
  CheckpointFiles,
  Evaluation,
  MetricsTable,
  RunDetails,
  RunMetrics,
  RunState,
  RunSummary,
  Sample,
  Score,
} from './run_data.js';
export { RunReader } from './run_reader.js';
