/**
 * Sums over processes in the order of these: what each process has of a bucket is sent to whom it belongs to as it is, who
 * adds in float32. A ring of processes adds in an order of its own for every number of them, and rounds after every
 * addition where it adds numbers of fewer bits.
 */
import type { CudaBackend } from '../backend.js';
import { spread } from '../grids.js';
import { SUM_VECTOR, THREADS, VECTOR } from '../kernel_interface.js';
import { i32, i64, pointer } from '../launch.js';
import { SharedMemory } from '../shared_memory.js';
import { BYTES } from '../storage.js';
import type { Gpus } from './gpus.js';

/**
 * Equal parts of a bucket for which the norm is taken one by one, so that it has the same bits on any number of processes
 * that divides this.
 */
export const SHARES = 8;

/** How gradients travel, and are rounded before. */
export type SumType = 'f32' | 'bf16';

/**
 * Adds so many lists of numbers, which follow one another, one list after another, in float32.
 *
 * @param count numbers of a list, a multiple of `SUM_VECTOR`, in bfloat16 of `VECTOR`
 * @param goesOn whether they are added to what is there
 */
export function addInOrder(
  backend: CudaBackend,
  sum: number,
  lists: number,
  count: number,
  number: number,
  goesOn: boolean,
  type: SumType = 'f32',
): void {
  const args = [pointer(sum), pointer(lists), i64(count), i32(number), i32(goesOn ? 1 : 0)];
  const [kernel, each] =
    type === 'f32' ? (['ordered_sum', SUM_VECTOR] as const) : (['ordered_sum_bf16', VECTOR] as const);
  const grid = [spread(Math.ceil(count / each))] as const;
  if (count > 0) backend.launch('sums.cu', kernel, { grid, block: THREADS }, args);
}

interface OrderedSumsOptions {
  /** Default: 'f32'. */
  type?: SumType;
  /** Where copy engines bring what is sent, if what is sent lies in such memory too; default: memory of the pool. */
  received?: SharedMemory | undefined;
}

/** Float32 sums over processes and micro-batches, which this process has of its part of a bucket or of all of a few. */
export class OrderedSums {
  private readonly received: SharedMemory;
  private readonly engines: boolean;
  private readonly type: SumType;
  private readonly arrived: number;
  private isEmpty = true;
  private coming: { address: number; number: number } | undefined;

  /** @param part where the sums are, so many numbers */
  constructor(
    private readonly gpus: Gpus,
    private readonly part: SharedMemory,
    private readonly count: number,
    { type = 'f32', received }: OrderedSumsOptions = {},
  ) {
    const { driver } = gpus.backend;
    this.engines = received !== undefined;
    this.type = type;
    this.received = received ?? SharedMemory.lasting(driver, count * gpus.communicator.size * BYTES[type]);
    this.arrived = driver.createEvent();
  }

  /** Forgets what was added so far. */
  clear(): void {
    this.isEmpty = true;
  }

  /** Begins to send what a micro-batch of every process gave: to each the part that is its own. */
  send(address: number): void {
    const { gpus, count, type, engines } = this;
    const { address: to } = this.received; // taken before the collective is put behind what was computed so far
    gpus.begin((communicator, stream) => communicator.allToAll(address, to, count * BYTES[type], stream, engines));
    // Where nothing is sent, as much of this process's own is added: as many numbers, and no others than gradients.
    this.arrive(gpus.silent ? address : to, gpus.communicator.size);
  }

  /** The same of numbers of which every process has the sums of all, in float32. */
  sendToAll(address: number): void {
    const { address: to } = this.received;
    this.gpus.begin((communicator, stream) => communicator.allGather(to, this.count, 'f32', stream, address));
    const { silent, communicator } = this.gpus;
    this.arrive(silent ? address : to, silent ? 1 : communicator.size);
  }

  private arrive(address: number, number: number): void {
    this.gpus.record(this.arrived);
    this.coming = { address, number };
  }

  /** Adds what has come, one process's after the other's. */
  add(): void {
    if (!this.coming) return;
    const { backend } = this.gpus;
    const { address, number } = this.coming;
    backend.driver.waitEvent(this.arrived);
    addInOrder(backend, this.part.address, address, this.count, number, !this.isEmpty, this.type);
    this.isEmpty = false;
    this.received.free();
    this.coming = undefined;
  }
}
