export { environmentOf } from './environment.js';
export { loadStudy, shippedStudies, studies } from './load.js';
export {
  answerPositions,
  checkTask,
  type MqrarBatch,
  type MqrarSequence,
  type MqrarTask,
  mqrarBatch,
  mqrarSequence,
} from './mqrar/task.js';
export { toCsv } from './publish.js';
export { defaultText } from './text/default_text.js';
