/** Device memory that several tensors lie in; it is given back when the last of them goes. */
import type { CudaDriver } from './driver.js';

export class SharedMemory {
  readonly address: number;

  constructor(
    private readonly driver: CudaDriver,
    bytes: number,
    private holders: number,
  ) {
    this.address = driver.allocate(bytes);
  }

  /** Memory that stays, whatever lies in it comes and goes. */
  static lasting(driver: CudaDriver, bytes: number): SharedMemory {
    return new SharedMemory(driver, bytes, Infinity);
  }

  release(): void {
    this.holders--;
    if (this.holders === 0) this.driver.release(this.address);
  }
}
