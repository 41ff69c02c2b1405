/** The likeliest tokens to follow. */
import type { Reading } from './engine.js';
import { percent, spaced } from './look.js';

export function Next({ next, onChoose }: { next: Reading['next']; onChoose(text: string): void }) {
  return (
    <section>
      <h2>What may follow</h2>
      <ol class="next">
        {next.map(({ id, text, probability }) => (
          <li key={id}>
            <button
              type="button"
              aria-label={`add ${text}, ${percent(probability)}`}
              style={{ '--share': probability }}
              onClick={() => onChoose(text)}
            >
              <span class="token">{spaced(text)}</span> {percent(probability)}
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}
