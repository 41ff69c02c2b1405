/** One head's attention as a picture: a row for each token that looks, a column for each that is looked at. */
import { Canvas } from './canvas.js';
import type { Facts, Reading } from './engine.js';
import { isStrong, percent, shade } from './look.js';
import { attentionOf, type Chosen, type Row } from './rows.js';

interface MapProps {
  reading: Reading;
  facts: Facts;
  chosen: Chosen;
  row: Row;
  onChoose(chosen: Chosen): void;
}

export function HeadMap({ reading, facts, chosen, row, onChoose }: MapProps) {
  const names = (count: number, what: string) => Array.from({ length: count }, (_, i) => `${what} ${i}`);
  const { layer, head } = chosen;
  const length = reading.tokens.length;
  const pick = (event: MouseEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const query = Math.floor(((event.clientY - box.top) / box.height) * length);
    onChoose({ ...chosen, query: Math.min(length - 1, Math.max(0, query)) });
  };
  return (
    <section>
      <h2>Every token, in one head</h2>
      <p class="controls">
        <label>
          layer{' '}
          <select value={layer} onChange={(event) => onChoose({ ...chosen, layer: Number(event.currentTarget.value) })}>
            {names(facts.numLayers, 'layer').map((name, i) => (
              <option key={name} value={i}>
                {i}
              </option>
            ))}
          </select>
        </label>
        <label>
          head{' '}
          <select
            value={head ?? 'mean'}
            onChange={({ currentTarget: { value } }) =>
              onChoose({ ...chosen, head: value === 'mean' ? undefined : Number(value) })
            }
          >
            <option value="mean">mean of all</option>
            {names(facts.numHeads, 'head').map((name, i) => (
              <option key={name} value={i}>
                {i}
              </option>
            ))}
          </select>
        </label>
        <Scale facts={facts} />
      </p>
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: the tokens above are the same, and take keys */}
      <figure onClick={pick}>
        <Canvas
          attention={attentionOf(reading, facts, chosen)}
          length={length}
          remainder={facts.leavesRemainder}
          marked={row.query}
          label={`Attention of layer ${layer}, ${head === undefined ? 'mean of all heads' : `head ${head}`}: ${length} tokens; the chosen one gives ${described(row, facts)}`}
        />
      </figure>
    </section>
  );
}

/** The three largest shares of a row, in words. */
function described({ weights, remainder }: Row, { leavesRemainder }: Facts): string {
  const largest = Array.from(weights.keys())
    .sort((a, b) => weights[b]! - weights[a]!)
    .slice(0, 3)
    .map((i) => `${percent(weights[i]!)} to token ${i}`);
  return [...largest, ...(leavesRemainder ? [`leaves ${percent(remainder)}`] : [])].join(', ');
}

function Scale({ facts }: { facts: Facts }) {
  const ticks = [0, 0.01, 0.1, 0.25, 0.5, 1];
  const swatches = (colour: string) =>
    ticks.map((tick) => (
      <span key={tick} class={isStrong(tick) ? 'swatch strong' : 'swatch'} style={{ background: shade(tick, colour) }}>
        {tick}
      </span>
    ));
  return (
    <span class="scale">
      <span>weight {swatches('var(--accent)')}</span>{' '}
      {facts.leavesRemainder && <span>remainder, left {swatches('var(--rest)')}</span>}
    </span>
  );
}
