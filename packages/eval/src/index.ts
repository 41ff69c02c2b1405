export { type AttentionMap, type AttentionMapOptions, attentionMaps } from './attention/maps.js';
export { type AttentionPictureOptions, attentionPicture, tokenLabels } from './attention/picture.js';
export { type OpenedCheckpoint, openCheckpoint } from './checkpoint.js';
export { progressLine, runCommand } from './command.js';
export { type DocumentsOptions, type EvaluationDocument, evaluateDocuments, rollingWindows } from './documents.js';
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
export { type EvaluationProgress, type LengthResult, scorerOf, type TokenScorer } from './scoring.js';
export { evaluateStream, type StreamOptions } from './stream.js';
export { formatTable } from './table.js';
export { readText } from './text.js';
export { detokenizeWikiText, wikiTextPages } from './wikitext.js';
