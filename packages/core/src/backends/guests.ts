/**
 * The backends of this package that have native parts. Each is a subpath of the package, loaded only when it is asked
 * whether it can run, so that importing the package loads neither a native library nor a module of Node's.
 */
import type { Available, BackendCandidate, Unavailable } from './candidate.js';

function guest(name: string, load: () => Promise<BackendCandidate>): BackendCandidate {
  return {
    name,
    probe: async (): Promise<Available | Unavailable> => (await load()).probe(),
    activate: async () => (await load()).activate(),
  };
}

// `as string`: the compiler must not follow the import, since the guests are compiled after this package and against it.
export const native = guest('native', async () => (await import('@stickbreaking/core/native' as string)).native);
export const cuda = guest('cuda', async () => (await import('@stickbreaking/core/cuda' as string)).cuda);
