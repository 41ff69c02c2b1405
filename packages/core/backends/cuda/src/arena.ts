/** Memory for what recorded steps of generation make (graphs.ts). */

/** Thrown while a step is recorded, where it does what cannot be repeated, such as an upload: it then runs as it is. */
export class NotRecordable extends Error {}

export const ARENA_BYTES = 64 * 2 ** 20;
const ALIGNMENT = 512;

/** Memory for what recorded steps make. Steps run one after another, so all of them share it. */
export class Arena {
  private top = 0;
  private readonly sizes = new Map<number, number>();
  private readonly free = new Map<number, number[]>();

  constructor(private readonly base: number) {}

  owns(address: number): boolean {
    return address >= this.base && address < this.base + ARENA_BYTES;
  }

  reset(): void {
    this.top = 0;
    this.sizes.clear();
    this.free.clear();
  }

  take(bytes: number): number {
    const size = Math.ceil(Math.max(bytes, 1) / ALIGNMENT) * ALIGNMENT;
    const again = this.free.get(size)?.pop();
    if (again !== undefined) return again;
    if (this.top + size > ARENA_BYTES) throw new NotRecordable('the step makes more than the arena holds');
    const address = this.base + this.top;
    this.top += size;
    this.sizes.set(address, size);
    return address;
  }

  give(address: number): void {
    const size = this.sizes.get(address);
    if (size === undefined) return;
    const same = this.free.get(size) ?? [];
    same.push(address);
    this.free.set(size, same);
  }
}
