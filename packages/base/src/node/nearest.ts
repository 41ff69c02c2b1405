/** What somebody may have meant who typed something else. */
import { distance } from 'fastest-levenshtein';

/** The one of `known` that is spelt most like `typed`; undefined where none is near. */
export function nearest(typed: string, known: readonly string[]): string | undefined {
  const [first] = known.toSorted((a, b) => distance(a, typed) - distance(b, typed));
  return first !== undefined && distance(first, typed) <= Math.max(2, typed.length / 2) ? first : undefined;
}
