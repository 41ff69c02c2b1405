import { expect, test, vi } from 'vitest';
import { main } from './cli.js';

test('says where the page takes a checkpoint from', async () => {
  const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const code = await main(['--checkpoint', 'runs/a']);
  const said = written.mock.calls.join('');
  written.mockRestore();
  expect([code, said]).toEqual([
    2,
    'sb-web takes no --checkpoint: open the page that it writes in a browser, and drop the checkpoint’s files on it.\n',
  ]);
});
