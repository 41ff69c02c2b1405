/** What the system's timers hold: 24.8 days. A longer one would go off at once. */
const LONGEST_MS = 2 ** 31 - 1;

/**
 * Calls back once so many milliseconds have passed, however many they are.
 *
 * @returns what forgets it
 */
export function after(milliseconds: number, call: () => void): () => void {
  const end = Date.now() + milliseconds;
  let timer: NodeJS.Timeout | undefined;
  const wait = () => {
    const left = end - Date.now();
    timer = left <= 0 ? undefined : setTimeout(wait, Math.min(left, LONGEST_MS));
    if (left <= 0) call();
  };
  wait();
  return () => clearTimeout(timer);
}
