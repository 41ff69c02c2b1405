// Whether a run can be on so many processes of a backend. A run and its plan ask here, and so does advice on more GPUs.
import { UserError } from '@stickbreaking/base';
import type { RunConfig } from '../run_config.js';

type Parallel = Pick<RunConfig, 'parallel'>;

/** @throws UserError where a run with these settings cannot be on so many processes of this backend */
export function checkPermitted(config: Parallel, backend: string, processes: number): void {
  throwIf(refusal(config, backend, processes));
}

/** @throws UserError where a run's sequences are not shared by so many processes, or by groups of them */
export function checkContext(config: Parallel, processes: number): void {
  throwIf(contextRefusal(config, processes));
}

/** Why it cannot, in one line; undefined where it can. */
export function refusal(config: Parallel, backend: string, processes: number): string | undefined {
  const { orderedSums, shard } = config.parallel;
  if (orderedSums && !(backend === 'cuda' && 8 % processes === 0)) {
    const here = backend === 'cuda' ? `${processes} GPUs` : `the backend ${backend}`;
    return `parallel.orderedSums is for 1, 2, 4 or 8 GPUs, and this run is on ${here}: leave it out.`;
  }
  // A process that is alone has all weights, whatever is set.
  if (shard === 'weights' && backend !== 'cuda' && processes > 1)
    return 'parallel.shard is weights, which is for GPUs: take gradients, or leave it out.';
  return contextRefusal(config, processes);
}

function contextRefusal({ parallel: { context } }: Parallel, processes: number): string | undefined {
  if (processes % context === 0) return undefined;
  return (
    `parallel.context is ${context}, so a run needs ${context} processes or a multiple of it, and there ` +
    `${processes === 1 ? 'is one' : `are ${processes}`}: start as many by --gpus or --processes, or set parallel.context.`
  );
}

function throwIf(message: string | undefined): void {
  if (message !== undefined) throw new UserError(message);
}
