/** Rounds each value to the nearest bfloat16, in place, so that a backend that stores bfloat16 loses nothing. */
export function roundToBfloat16(values: Float32Array): Float32Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const rounded = bits[i]! + 0x7fff + ((bits[i]! >>> 16) & 1); // half to even
    bits[i] = (rounded & 0xffff0000) >>> 0;
  }
  return values;
}
