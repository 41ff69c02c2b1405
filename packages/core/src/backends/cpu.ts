/** tfjs's own backend in plain JavaScript: slow, but available on every machine. */
import { findBackend, type KernelBackend, setBackend } from '@tensorflow/tfjs-core';
import type { BackendCandidate } from './candidate.js';

export const cpu: BackendCandidate = {
  name: 'cpu',
  probe: async () => ({ available: true, description: 'cpu: TensorFlow.js in plain JavaScript, 1 thread' }),
  activate: async () => {
    await setBackend('cpu');
    const backend = findBackend('cpu');
    if (backend) silenceGreeting(backend);
  },
};

/**
 * At its first write tfjs's CPU backend prints an advertisement for another package, unless told that it is not the
 * first.
 */
export function silenceGreeting(backend: KernelBackend): void {
  Object.assign(backend, { firstUse: false });
}
