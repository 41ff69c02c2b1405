/** tfjs's own backend in plain JavaScript: slow, and there on every machine. */
import { findBackend, setBackend } from '@tensorflow/tfjs-core';
import type { BackendCandidate } from './candidate.js';

export const cpu: BackendCandidate = {
  name: 'cpu',
  probe: async () => ({ available: true, description: 'cpu: TensorFlow.js in plain JavaScript, 1 thread' }),
  activate: async () => {
    await setBackend('cpu');
    silenceGreeting();
  },
};

/** At its first write the backend prints an advertisement for another package, unless told that it is not the first. */
export function silenceGreeting(): void {
  const backend = findBackend('cpu') as { firstUse?: boolean } | null;
  if (backend) backend.firstUse = false;
}
