/** Device memory for the time of one kernel. */
import type { CudaDriver } from './driver.js';
import type { Uploads } from './uploads.js';

export class Scratch {
  private readonly addresses: number[] = [];
  constructor(
    private readonly driver: CudaDriver,
    private readonly uploads: Uploads,
  ) {}

  allocate(bytes: number): number {
    const address = this.driver.allocate(bytes);
    this.addresses.push(address);
    return address;
  }
  /** Memory that was another's, to be given back with this. */
  adopt(address: number): void {
    this.addresses.push(address);
  }
  upload(values: ArrayBufferView): number {
    const address = this.allocate(values.byteLength);
    this.uploads.upload(address, values);
    return address;
  }
  release(): void {
    for (const address of this.addresses) this.driver.release(address);
  }
}
