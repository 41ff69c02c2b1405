/** Copies from the host to the device, in stream order, through a pinned buffer. */
import { NotRecordable } from './arena.js';
import type { CudaDriver } from './driver.js';

const STAGING_BYTES = 16 * 2 ** 20;

export class Uploads {
  private staging?: { bytes: Uint8Array; used: number };

  constructor(private readonly driver: CudaDriver) {}

  /** The caller may change `values` at once. */
  upload(address: number, values: ArrayBufferView): void {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const { driver } = this;
    if (bytes.length === 0) return;
    if (driver.arena) throw new NotRecordable('an upload');
    if (bytes.length > STAGING_BYTES / 4) {
      driver.call('cuMemcpyHtoDAsync_v2', address, bytes, bytes.length, driver.stream);
      driver.synchronize();
      return;
    }
    this.staging ??= { bytes: new Uint8Array(this.driver.allocatePinned(STAGING_BYTES)), used: 0 };
    const size = Math.ceil(bytes.length / 256) * 256;
    if (this.staging.used + size > STAGING_BYTES) {
      driver.synchronize();
      this.staging.used = 0;
    }
    const part = this.staging.bytes.subarray(this.staging.used, this.staging.used + bytes.length);
    part.set(bytes);
    this.staging.used += size;
    driver.call('cuMemcpyHtoDAsync_v2', address, part, bytes.length, driver.stream);
  }
}
