/** Device memory that several tensors lie in; it is given back when the last of them goes. */
import type { CudaDriver } from './driver.js';

/** Memory that is nobody's own. */
export interface Place {
  readonly address: number;
  isTaken: boolean;
}

export class SharedMemory {
  private at: number | undefined;
  private place: Place | undefined;

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

  /** The same as `lasting` in a place that others use in turns, one at a time. */
  static inTurns(driver: CudaDriver, place: Place): SharedMemory {
    const memory = new SharedMemory(driver, 0, Infinity);
    memory.place = place;
    return memory;
  }

  get address(): number {
    this.at ??= this.take();
    return this.at;
  }

  private take(): number {
    if (!this.place) return this.driver.allocate(this.bytes);
    if (this.place.isTaken) throw new Error('memory that is used in turns is still in use');
    this.place.isTaken = true;
    return this.place.address;
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
    if (this.at !== undefined && this.place) this.place.isTaken = false;
    else if (this.at !== undefined) this.driver.release(this.at);
    this.at = undefined;
  }
}
