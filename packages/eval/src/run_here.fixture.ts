/** Commands run in this process, for tests. */
import { vi } from 'vitest';

/** Gives a command's exit code and what it wrote. */
export async function runHere(
  command: (argv: string[]) => Promise<number>,
  ...argv: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((chunk) => {
      written[name] += String(chunk);
      return true;
    }),
  );
  try {
    return { code: await command(argv), ...written };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}
