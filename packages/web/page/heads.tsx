/** All heads side by side, small. */
import { useMemo } from 'preact/hooks';
import { Canvas } from './canvas.js';
import type { Facts, Reading } from './engine.js';
import { attentionOf, type Chosen } from './rows.js';

interface HeadsProps {
  reading: Reading;
  facts: Facts;
  chosen: Chosen;
  onChoose(chosen: Chosen): void;
}

export function Heads({ reading, facts, chosen, onChoose }: HeadsProps) {
  const { numLayers, numHeads, leavesRemainder } = facts;
  const pictures = useMemo(
    () =>
      Array.from({ length: numLayers }, (_, layer) =>
        Array.from({ length: numHeads }, (_, head) => attentionOf(reading, facts, { layer, head })),
      ),
    [reading, facts],
  );
  return (
    <section>
      <h2>All heads</h2>
      <div class="heads" style={{ '--heads': numHeads }}>
        {pictures.map((heads, layer) =>
          heads.map((attention, head) => (
            <button
              key={`${layer}.${head}`}
              type="button"
              aria-label={`layer ${layer}, head ${head}`}
              aria-pressed={chosen.layer === layer && chosen.head === head}
              onClick={() => onChoose({ ...chosen, layer, head })}
            >
              <Canvas attention={attention} length={reading.tokens.length} remainder={leavesRemainder} label="" />
              <small>
                {layer}.{head}
              </small>
            </button>
          )),
        )}
      </div>
    </section>
  );
}
