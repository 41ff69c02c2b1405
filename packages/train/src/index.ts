export { type BatchGradients, batchGradients, meanLoss } from './batch_gradients.js';
export { CheckpointStore, readState, storeToRead, type TrainingState } from './checkpoint.js';
export { type Collective, oneProcess } from './collective.js';
export type { Evaluation, OpenTaskScorer, TaskScorer, TaskScorerOptions } from './evaluation.js';
export {
  type EvaluationMetrics,
  type MetricsLine,
  readMetrics,
  type StepMetrics,
  type TaskScore,
  type ValidationMetrics,
  type Written,
} from './metrics.js';
export { MetricsTail } from './metrics_tail.js';
export { Optimizer, OptimizerSchema, type OptimizerSettings } from './optimizer.js';
export { joinByNccl } from './parallel/gpu_world.js';
export { launchOnGpus } from './parallel/launch.js';
export { type Place, placeOf } from './parallel/place.js';
export type { Piece, SharedWeights, Snapshot } from './parallel/shared_weights.js';
export { narrowGpus } from './parallel/start.js';
export type { World } from './parallel/world.js';
export { type RunOptions, runTraining } from './run.js';
export {
  fetchStart,
  loadRunConfig,
  type RunConfig,
  type RunConfigInput,
  RunConfigSchema,
  stageSizes,
} from './run_config.js';
export { readSamples, type Sample, type Sampling } from './samples.js';
export { learningRate, type Schedule, ScheduleSchema, type StageSchedule } from './schedule.js';
export type { BatchSource, PlacedStage, StageData, TrainStage } from './stage.js';
export { loadStart, type Start } from './start.js';
export type { TrainHooks, TrainOptions, TrainResult } from './train_options.js';
export { train } from './trainer.js';
