/** The configurations side by side; at first only what differs. */
import { useState } from 'preact/hooks';
import { compareConfigs } from '../src/differences.js';
import type { Shown } from './shown.js';
import { Swatch } from './swatch.js';

export function Configuration({ shown }: { shown: readonly Shown[] }) {
  const [all, setAll] = useState(shown.length === 1);
  const rows = compareConfigs(
    shown.map(({ details }) => details && { ...(details.config as object), 'computed with': details.backend }),
  );
  const listed = all ? rows : rows.filter(({ differs }) => differs);
  return (
    <>
      <p>
        <label>
          <input type="checkbox" checked={all} onChange={(event) => setAll(event.currentTarget.checked)} /> also what
          they have in common
        </label>
      </p>
      {listed.length === 0 ? (
        <p>{rows.length === 0 ? 'None of these runs says how it was configured.' : 'They are configured alike.'}</p>
      ) : (
        <div class="scroll">
          <table class="configs">
            <thead>
              <tr>
                <th scope="col">key</th>
                {shown.map((run) => (
                  <th scope="col" key={run.name}>
                    <Swatch run={run} /> {run.short}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {listed.map(({ key, values, differs }) => (
                <tr key={key} class={differs && all && shown.length > 1 ? 'differs' : ''}>
                  <th scope="row">{key}</th>
                  {values.map((value, i) => (
                    <td key={shown[i]!.name}>{value ?? <i>not set</i>}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}
