/** Giving back what a tensor holds: its memory, and what is kept beside it. */
import type { CudaDriver } from './driver.js';
import type { Entry } from './storage.js';

export function releaseMemory(driver: CudaDriver, entry: Entry): void {
  if (entry.memory) entry.memory.release();
  else if (!entry.borrowed) driver.release(entry.address);
  entry.memory = undefined;
  entry.borrowed = undefined;
}

/** All that is kept beside a tensor: copies in fewer bits, and further bits. */
export function releaseCopies(driver: CudaDriver, entry: Entry): void {
  releaseRest(driver, entry);
  if (entry.eight) driver.release(entry.eight.address);
  entry.eight = undefined;
  releaseEightWeight(driver, entry);
  if (entry.copyMemory) entry.copyMemory.release();
  else if (entry.copy !== undefined) driver.release(entry.copy);
  entry.copy = undefined;
  entry.copyMemory = undefined;
}

export function releaseRest(driver: CudaDriver, entry: Entry): void {
  if (entry.rest !== undefined) driver.release(entry.rest);
  entry.rest = undefined;
}

export function releaseEightWeight(driver: CudaDriver, entry: Entry): void {
  if (entry.eightWeight) driver.release(entry.eightWeight.address);
  entry.eightWeight = undefined;
}
