export { type AttentionMap, type AttentionMapOptions, attentionMaps } from './attention/maps.js';
export { type AttentionPictureOptions, attentionPicture, tokenLabels } from './attention/picture.js';
export { type OpenedCheckpoint, openCheckpoint } from './checkpoint.js';
export { type DocumentsOptions, evaluateDocuments } from './documents.js';
export { parseLengths } from './lengths.js';
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
export {
  type EvaluationProgress,
  type LengthResult,
  type StreamResult,
  scorerOf,
  type TokenScorer,
} from './scoring.js';
export { evaluateStream, type StreamOptions, type StreamText } from './stream.js';
export { formatTable } from './table.js';
export { documentPerplexity, type EvaluationDocument } from './tasks/document_perplexity.js';
export { RollingRequests, rollingWindows } from './tasks/rolling.js';
export { type AnswerOf, type RequestKind, type RequestOf, requestsOf, scoreTask, type Task } from './tasks/task.js';
export { readText } from './text.js';
