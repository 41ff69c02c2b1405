/** Stands in for `native` and `cuda` where native code cannot run, such as in a browser. */
import type { BackendCandidate } from './candidate.js';

const absent = (name: string): BackendCandidate => ({
  name,
  probe: async () => ({ available: false, why: 'it needs Node and a native library' }),
  activate: async () => {},
});

export const native = absent('native');
export const cuda = absent('cuda');
