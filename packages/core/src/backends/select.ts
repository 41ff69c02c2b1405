/** Chooses the backend that runs everything: the one asked for, or the fastest one that works on this machine. */
import '../gradients.js';
import { UserError } from '@stickbreaking/base';
import { findBackendFactory, ready, setBackend } from '@tensorflow/tfjs-core';
import type { Available, BackendCandidate } from './candidate.js';
import { cpu } from './cpu.js';
import { cuda, native } from './guests.js';
import { tensorflow, webgpu } from './optional.js';

/** Fastest first: the order in which `auto` tries them. */
const automatic: readonly BackendCandidate[] = [cuda, native, cpu];
const candidates: readonly BackendCandidate[] = [...automatic, tensorflow, webgpu];

/** What `selectBackend` accepts. */
export type BackendName = 'auto' | 'cuda' | 'native' | 'cpu' | 'tensorflow' | 'webgpu';

/** The backend that `selectBackend` made active. */
export interface SelectedBackend {
  name: string;
  /** One line for the user: the backend and the hardware it found. */
  description: string;
  /**
   * What the bits of results depend on, as one short string. Where it is the same, the same inputs give the same bits.
   */
  arithmetic: string;
  /** Bytes of the device's own memory, where it has any. */
  deviceMemory?: number | undefined;
  /** Why this one: "asked for", or which ones were passed over and why. */
  reason: string;
}

/**
 * Makes a backend tfjs's active one.
 *
 * @param name `auto` takes the first of cuda, native and cpu that works on this machine; any backend that is registered
 *   with tfjs can be named too
 * @throws UserError if the backend asked for is unknown or cannot run here, with the reason, or if a setting has a value it cannot have
 */
export async function selectBackend(name: string = 'auto'): Promise<SelectedBackend> {
  if (name !== 'auto') return selectNamed(name);
  const passedOver: string[] = [];
  for (const candidate of automatic) {
    const probed = await candidate.probe();
    if (probed.available) {
      return activated(candidate, probed, [...passedOver, `using ${candidate.name}`].join('; '));
    }
    passedOver.push(`${candidate.name} is not available: ${probed.why}`);
  }
  throw new UserError(`No backend works on this machine: ${passedOver.join('; ')}.`);
}

/** A backend of tfjs's or of the program's own that is registered with tfjs already, such as `webgl` in a browser. */
function registered(name: string): BackendCandidate | undefined {
  if (!findBackendFactory(name)) return undefined;
  return {
    name,
    probe: async () => ({ available: true, description: `${name}: registered with TensorFlow.js` }),
    activate: async () => {
      if (!(await setBackend(name)))
        throw new UserError(`Backend '${name}' cannot run here: its initialisation failed.`);
    },
  };
}

async function selectNamed(name: string): Promise<SelectedBackend> {
  const candidate = candidates.find((one) => one.name === name) ?? registered(name);
  if (!candidate) {
    const known = ['auto', ...candidates.map((one) => one.name)].join(', ');
    throw new UserError(
      `Backend '${name}' is not known; expected one of ${known}, or one that is registered with TensorFlow.js.`,
    );
  }
  const probed = await candidate.probe();
  if (!probed.available) throw new UserError(`Backend '${name}' cannot run here: ${probed.why}.`);
  return activated(candidate, probed, 'asked for');
}

async function activated(candidate: BackendCandidate, probed: Available, reason: string): Promise<SelectedBackend> {
  await candidate.activate();
  await ready();
  const { description, arithmetic = description, deviceMemory } = probed;
  return { name: candidate.name, description, arithmetic, deviceMemory, reason };
}
