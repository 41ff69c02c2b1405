/** tfjs backends that a user may have installed beside this package: used if present, never required. */
import { findBackendFactory, setBackend } from '@tensorflow/tfjs-core';
import type { BackendCandidate } from './candidate.js';

/** A backend in an optional peer dependency: the first of `packages` that loads. */
function optionalBackend(name: string, packages: readonly string[], description: string): BackendCandidate {
  const load = async (): Promise<string | undefined> => {
    // A bundled program has imported it itself: its name means nothing in a browser.
    if (findBackendFactory(name)) return packages[0];
    for (const specifier of packages) {
      try {
        await import(specifier);
        return specifier;
      } catch {
        // Not installed, or it cannot load here: try the next, or say so.
      }
    }
    return undefined;
  };
  return {
    name,
    probe: async () => {
      const loaded = await load();
      return loaded
        ? { available: true, description: `${name}: ${description} (${loaded})` }
        : { available: false, why: `${packages.join(' or ')} is not installed or does not load on this machine` };
    },
    activate: async () => {
      await load();
      await setBackend(name);
    },
  };
}

export const tensorflow = optionalBackend(
  'tensorflow',
  ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'],
  'the TensorFlow C library',
);
export const webgpu = optionalBackend('webgpu', ['@tensorflow/tfjs-backend-webgpu'], 'WebGPU');
