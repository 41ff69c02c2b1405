/** The checkpoints that the runs keep, and what they take on disk. */

import { formatBytes } from './look.js';
import type { Shown } from './shown.js';
import { Swatch } from './swatch.js';

export function Checkpoints({ shown }: { shown: readonly Shown[] }) {
  const rows = shown.flatMap((run) => (run.details?.checkpoints ?? []).map((checkpoint) => ({ run, checkpoint })));
  const total = rows.reduce((sum, { checkpoint }) => sum + checkpoint.bytes, 0);
  if (rows.length === 0) return <p>These runs have no checkpoints yet.</p>;
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">run</th>
            <th scope="col">checkpoint</th>
            <th scope="col">size</th>
            <th scope="col">written</th>
            <th scope="col">is the</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(({ run, checkpoint: { name, bytes, time, isLatest, isBest } }) => (
            <tr key={run.name + name}>
              <th scope="row">
                <Swatch run={run} /> {run.short}
              </th>
              <td>{name}</td>
              <td>{formatBytes(bytes)}</td>
              <td>
                <time dateTime={time}>{new Date(time).toLocaleString()}</time>
              </td>
              <td>{[isLatest && 'latest', isBest && 'best'].filter(Boolean).join(', ')}</td>
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">all</th>
            <td>{rows.length}</td>
            <td>{formatBytes(total)}</td>
            <td />
            <td />
          </tr>
        </tfoot>
      </table>
    </div>
  );
}
