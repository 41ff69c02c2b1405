/**
 * Where gradients lie on their way, so that copy engines may send them: memory that every process has registered, which stays. Layers
 * take a few such places in turns: of one the gradients are being made, of another they are complete, of a third they are on their way,
 * and of two they have arrived or arrive.
 */
import { type Place, SharedMemory } from '../shared_memory.js';
import { BYTES } from '../storage.js';
import type { Gpus } from './gpus.js';
import type { Bucket } from './layout.js';

/** Bytes that a place begins at a multiple of. */
const ALIGNMENT = 4096;
const SENDING = 3;
const RECEIVING = 2;

/** Whether sums in order are sent by copy engines where these can: a setting until it has been measured. */
export function wantsEngines(environment: NodeJS.ProcessEnv = process.env): boolean {
  return environment.STICKBREAKING_SUM_ENGINES === '1';
}

/**
 * Of each bucket the memory for its gradients and for what comes of the other processes'; undefined where copy engines cannot. Every
 * process must ask for it at the same time.
 */
export function sumPlaces(
  { backend: { driver }, communicator }: Gpus,
  buckets: readonly Bucket[],
): { sending: SharedMemory; received: SharedMemory }[] | undefined {
  const bytesOf = ({ size }: Bucket) => Math.ceil((size * BYTES.f32) / ALIGNMENT) * ALIGNMENT;
  const largest = Math.max(0, ...buckets.filter(({ isLayer }) => isLayer).map(bytesOf));
  const others = buckets.filter(({ isLayer }) => !isLayer).reduce((sum, one) => sum + 2 * bytesOf(one), 0);
  const whole = (SENDING + RECEIVING) * largest + others;
  driver.trim();
  let next = communicator.memory(whole);
  if (next === undefined) return undefined;
  driver.elsewhere += whole;
  const place = (bytes: number): Place => {
    const address = next!;
    next = address + bytes;
    return { address, isTaken: false };
  };
  const [sending, receiving] = [SENDING, RECEIVING].map((count) => Array.from({ length: count }, () => place(largest)));
  let layers = 0;
  return buckets.map((bucket) => {
    const index = bucket.isLayer ? layers++ : undefined;
    const own = (turns: readonly Place[]) =>
      SharedMemory.inTurns(driver, index === undefined ? place(bytesOf(bucket)) : turns[index % turns.length]!);
    return { sending: own(sending!), received: own(receiving!) };
  });
}
