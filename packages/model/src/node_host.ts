/** Node, as a model sees it; importing this module makes it the host. */
import { loadCheckpoint, loadCheckpointAsync, saveCheckpoint, saveCheckpointAsync } from './checkpoint.js';
import { setHost } from './host.js';
import { hostMemory } from './host_memory.js';

setHost({
  memory: hostMemory,
  load: loadCheckpoint,
  loadAsync: loadCheckpointAsync,
  save: saveCheckpoint,
  saveAsync: saveCheckpointAsync,
});
