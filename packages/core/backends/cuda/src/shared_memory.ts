/** Device memory that several tensors lie in; it is given back when the last of them goes. */
import type { CudaDriver } from './driver.js';

export class SharedMemory {
  private at: number | undefined;

  constructor(
    private readonly driver: CudaDriver,
    private readonly bytes: number,
    private holders: number,
  ) {
    if (holders !== Infinity) this.at = driver.allocate(bytes);
  }

  /**
   * Memory that is taken when its address is first asked for and stays, whatever lies in it comes and goes, until
   * `free`.
   */
  static lasting(driver: CudaDriver, bytes: number): SharedMemory {
    return new SharedMemory(driver, bytes, Infinity);
  }

  /** Memory at an address that others gave, which stays. */
  static at(driver: CudaDriver, address: number): SharedMemory {
    const memory = new SharedMemory(driver, 0, Infinity);
    memory.at = address;
    return memory;
  }

  get address(): number {
    this.at ??= this.driver.allocate(this.bytes);
    return this.at;
  }

  get isThere(): boolean {
    return this.at !== undefined;
  }

  release(): void {
    this.holders--;
    if (this.holders === 0) this.free();
  }

  /** Gives it back, whoever lies in it; it can be taken again. */
  free(): void {
    if (this.at !== undefined) this.driver.release(this.at);
    this.at = undefined;
  }
}
