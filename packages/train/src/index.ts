export { CheckpointStore, readState, type TrainingState } from './checkpoint.js';
export { TrainError } from './errors.js';
export { type MetricsLine, readMetrics, type StepMetrics, type ValidationMetrics } from './metrics.js';
export { formatPlan, type Plan, planRun, type StagePlan } from './plan.js';
export { type RunOptions, type RunResult, runTraining } from './run.js';
export {
  loadRunConfig,
  type RunConfig,
  type RunConfigInput,
  RunConfigSchema,
  resolveStages,
  type Stage,
} from './run_config.js';
export { learningRate, type Schedule, ScheduleSchema, type StageSchedule } from './schedule.js';
