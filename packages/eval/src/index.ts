export {
  type AttentionLook,
  AttentionLooker,
  type HeadReach,
  type LookOptions,
} from './attention/look.js';
export { type AttentionMap, type AttentionMapOptions, attentionMaps } from './attention/maps.js';
export { type AttentionPictureOptions, attentionPicture, tokenLabels } from './attention/picture.js';
export { type OpenedCheckpoint, openCheckpoint, verifyOption } from './checkpoint.js';
export type { EvaluationDocument } from './document_tokens.js';
export { type DocumentsOptions, evaluateDocuments } from './documents.js';
export { Evaluator, type EvaluatorOptions, type Score, type ScoreOptions } from './evaluator.js';
export { modelOptions, type SamplingArguments, samplingFrom, samplingOptions } from './generation/options.js';
export { parseLengths } from './lengths.js';
export { compareLatex, type Equivalence } from './math/equivalence.js';
export { normaliseAnswer } from './math/minerva_answer.js';
export type { Bar } from './report/bars.js';
export { type Finding, sortFindings, summariseFindings } from './report/findings.js';
export {
  type Curve,
  type CurvePoint,
  type Report,
  type ReportBlock,
  renderReport,
  writePictures,
  writeReport,
} from './report/report.js';
export type { GroupOutcome } from './results/results.js';
export type { Share, TaskOutcome } from './runner/run.js';
export {
  type DocumentsResult,
  type EvaluationProgress,
  type LengthResult,
  type StreamResult,
  scorerOf,
  type TokenScorer,
} from './scoring.js';
export { StopTexts } from './stop_texts.js';
export { evaluateStream, type StreamOptions, type StreamText } from './stream.js';
export { formatTable } from './table.js';
export { type BuildOptions, type BuiltDocument, type BuiltTask, buildTask, type TaskRows } from './tasks/build.js';
export {
  type AnswerFilter,
  defineTask,
  type GenerationDefinition,
  type GenerationMetric,
  type GroupDefinition,
  type MultipleChoiceDefinition,
  type MultipleContextDefinition,
  type RollingDefinition,
  type Row,
  type Shots,
  type TaskDefinition,
} from './tasks/definition.js';
export { type ExactMatchOptions, exactMatch } from './tasks/exact_match.js';
export { regexFilter, wholeText } from './tasks/filters.js';
export { RollingRequests, rollingWindows } from './tasks/rolling.js';
export type { DocumentScore, FilterScore, TaskFigure, TaskResult } from './tasks/scores.js';
export { type Harness, type Suite, type SuiteOptions, suiteOf } from './tasks/suite/index.js';
export {
  type AnswerOf,
  type GenerationSettings,
  type RequestKind,
  type RequestOf,
  requestsOf,
  scoreExamples,
  scoreTask,
  type Task,
} from './tasks/task.js';
export { readText } from './text.js';
