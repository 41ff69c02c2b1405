/** Whether what runs through a model at once fits this machine. */
import { formatBytes, UserError } from '@stickbreaking/base';
import { estimateMemory, hostMemory, type LlamaConfig } from '@stickbreaking/model';

/**
 * Whether a device has enough memory, its backend must say.
 *
 * @param tokens that run through the model together
 * @param what they are, as in 'A context of 65536 tokens', and what to do instead
 * @throws UserError where they need more memory than there is
 */
export function checkMemory(
  config: LlamaConfig,
  backend: string,
  tokens: number,
  { what, advice }: { what: string; advice: string },
): void {
  if (!['native', 'cpu'].includes(backend)) return;
  const needed = estimateMemory(config, { tokens, training: false });
  const present = hostMemory();
  if (needed <= present) return;
  throw new UserError(
    `${what} needs about ${formatBytes(needed)} of memory, and this machine has ${formatBytes(present)}; ${advice}.`,
  );
}
