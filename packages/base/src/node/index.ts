export type { Argv } from 'yargs';
export { after } from './after.js';
export { AppendFile } from './append_file.js';
export { cacheDirectory, homeDirectory } from './cache_directory.js';
export { type Coloured, painted, withHeading } from './colour.js';
export { checkOutput, faultOf, type OtherCommands, parsing, runCommand } from './command.js';
export {
  checkDirectory,
  isLeftover,
  makeDirectory,
  removeLeftovers,
  replaceFile,
  replaceFileAsync,
  syncDirectory,
  syncDirectoryWithFiles,
  writeFullyAsync,
  writeOutput,
} from './files.js';
export type { LockHolder } from './holder.js';
export {
  cachedSnapshot,
  type HubAddress,
  type HubRepository,
  isHubAddress,
  isOffline,
  listedNames,
  openHubRepository,
  parseHubAddress,
} from './hub/index.js';
export { koffiPath, loadKoffi } from './koffi.js';
export { listen } from './listen.js';
export { type LockOptions, lockOrRefuse, withLock } from './lock.js';
export { holderOf } from './lock_file.js';
export { jsonOption, printJson } from './output.js';
export { checkProcesses, peakMemory } from './process.js';
export { type ProgressLine, type ProgressLineOptions, type ProgressStream, progressLine } from './progress_line.js';
export { openFile, readWhole } from './read_whole.js';
export { ShippedFiles } from './shipped.js';
export { exitCodeOf, STOP_SIGNALS, type Stop, stopOnSignals } from './signals.js';
export { parseYaml, readYaml, type YamlOptions } from './yaml.js';
