/**
 * The border between JavaScript's numbers and C's: a number that its parameter cannot hold would arrive there as another
 * one, so it is refused here.
 */
import { UserError } from '@stickbreaking/base';

const LARGEST_FLOAT = 3.4028234663852886e38;

const fits: Record<string, (value: unknown) => boolean> = {
  int32_t: (value) => (value as number) === ((value as number) | 0),
  int64_t: (value) => Number.isSafeInteger(value),
  float: (value) => typeof value === 'number' && Math.abs(value) <= LARGEST_FLOAT, // NaN is not
};

/** The numbers among the parameters of a C signature such as `void f(int32_t n, void *x)`, with their places. */
export function numbersOf(signature: string): { index: number; name: string; type: string }[] {
  const list = signature.slice(signature.indexOf('(') + 1, signature.lastIndexOf(')'));
  return list.split(',').flatMap((parameter, index) => {
    const [type, name] = parameter.trim().split(/\s+/);
    return type !== undefined && type in fits ? [{ index, name: name!, type }] : [];
  });
}

/** The function, which refuses numbers that its parameters cannot hold. */
// biome-ignore lint/suspicious/noExplicitAny: whatever the signature says
export function checked<Call extends (...args: any[]) => unknown>(signature: string, call: Call): Call {
  const numbers = numbersOf(signature).map((one) => ({ ...one, fits: fits[one.type]! }));
  if (numbers.length === 0) return call;
  const name = /(\w+)\(/.exec(signature)![1]!;
  const guarded = (...args: unknown[]) => {
    for (const one of numbers) {
      const value = args[one.index];
      if (!one.fits(value)) throw new UserError(`${name}: ${one.name} is ${value}, which ${one.type} cannot hold.`);
    }
    return call(...args);
  };
  return guarded as Call;
}
