/** sb-train in the process of the test. */
import { vi } from 'vitest';
import { main } from './cli.js';

/** Its exit code and what it wrote. */
export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

export async function runHere(args: string[]): Promise<Ended> {
  const written = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      written[name] += text;
      return true;
    }),
  );
  try {
    return { code: await main(args), ...written };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}
