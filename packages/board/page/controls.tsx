/** What the curves are drawn by. */
import { axes, type Change, type Settings } from './settings.js';

export function Controls({ settings, change }: { settings: Settings; change: Change }) {
  const { x, smoothing, zoom } = settings;
  return (
    <form class="controls" onSubmit={(event) => event.preventDefault()}>
      <fieldset class="axis">
        <legend>by</legend>
        {axes.map((axis) => (
          <label key={axis}>
            <input type="radio" name="x" checked={x === axis} onChange={() => change({ x: axis, zoom: undefined })} />
            {axis}
          </label>
        ))}
      </fieldset>
      <label>
        smoothing
        <input
          type="range"
          min="0"
          max="0.99"
          step="0.01"
          value={smoothing}
          aria-valuetext={smoothing === 0 ? 'none' : String(smoothing)}
          onInput={(event) => change({ smoothing: Number(event.currentTarget.value) })}
        />
        <output>{smoothing === 0 ? 'none' : smoothing.toFixed(2)}</output>
      </label>
      <Check name="logarithmic y" on={settings.logY} set={(logY) => change({ logY })} />
      <Check name={`logarithmic ${x}`} on={settings.logX} set={(logX) => change({ logX })} />
      <Check name="leave out outliers" on={settings.cutOutliers} set={(cutOutliers) => change({ cutOutliers })} />
      {zoom && (
        <button type="button" onClick={() => change({ zoom: undefined })}>
          show all of the {x === 'time' ? 'time' : `${x.replace(/s$/, '')}s`}
        </button>
      )}
    </form>
  );
}

function Check({ name, on, set }: { name: string; on: boolean; set: (on: boolean) => void }) {
  return (
    <label>
      <input type="checkbox" checked={on} onChange={(event) => set(event.currentTarget.checked)} />
      {name}
    </label>
  );
}
