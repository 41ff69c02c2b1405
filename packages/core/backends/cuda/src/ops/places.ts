/** Places of several things in one piece of memory, one after the other. */
const ALIGNMENT = 256;

export class Places {
  /** Of all things so far. */
  bytes = 0;

  /** Where the next thing, of so many bytes, begins. */
  place(bytes: number): number {
    const start = this.bytes;
    this.bytes += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return start;
  }
}
