export { CheckpointStore, readState, type TrainingState } from './checkpoint.js';
export { TrainError } from './errors.js';
export { type MetricsLine, readMetrics, type StepMetrics, type ValidationMetrics } from './metrics.js';
export { learningRate, type Schedule, ScheduleSchema, type StageSchedule } from './schedule.js';
