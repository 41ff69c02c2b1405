/** Values on their way from the device to the host. */
import type { CudaDriver } from './driver.js';
import type { Entry } from './storage.js';

export type HostValues = Float32Array | Int32Array | Uint8Array;

/** Room on the host for a tensor's values. */
export function roomFor({ size, type }: Pick<Entry, 'size' | 'type'>): HostValues {
  const array = type === 'i32' ? Int32Array : type === 'u8' ? Uint8Array : Float32Array;
  return new array(size);
}

export class Downloads {
  private aside: number | undefined;

  constructor(private readonly driver: CudaDriver) {}

  /** Behind everything launched so far. */
  inOrder(values: HostValues, address: number): void {
    this.download(values, address, this.driver.stream);
  }

  /** What has been computed already, while the device works on. */
  asideOf(values: HostValues, address: number): void {
    this.aside ??= this.driver.createUrgentStream();
    this.download(values, address, this.aside);
  }

  private download(values: HostValues, address: number, stream: number): void {
    if (values.length > 0) this.driver.call('cuMemcpyDtoHAsync_v2', values, address, values.byteLength, stream);
    this.driver.synchronize(stream);
  }

  /** When all that has been launched is done, without blocking the event loop. */
  async launched(): Promise<void> {
    const { driver } = this;
    const event = driver.createEvent();
    driver.recordEvent(event);
    while (!driver.eventDone(event)) await new Promise((resolve) => setImmediate(resolve));
    driver.call('cuEventDestroy_v2', event);
  }
}
