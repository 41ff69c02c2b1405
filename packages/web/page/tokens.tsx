/** The text token by token: where the chosen one looks. */
import type { Facts, Reading } from './engine.js';
import { isStrong, percent, shade, visible } from './look.js';
import type { Row } from './rows.js';

interface TokensProps {
  reading: Reading;
  row: Row;
  facts: Facts;
  onChoose(query: number): void;
}

export function Tokens({ reading, row, facts, onChoose }: TokensProps) {
  const { tokens } = reading;
  const step = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const next = Math.min(tokens.length - 1, Math.max(0, row.query + by));
    onChoose(next);
    (event.currentTarget as HTMLElement).querySelectorAll('button')[next]?.focus();
  };
  return (
    <section>
      <h2>
        “<span class="token">{visible(tokens[row.query]!.text.trim() || tokens[row.query]!.text)}</span>” looks at
      </h2>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the keys move between the buttons inside */}
      <div class="tokens" onKeyDown={step}>
        {facts.leavesRemainder && (
          <span
            class={isStrong(row.remainder) ? 'remainder strong' : 'remainder'}
            style={{ background: shade(row.remainder, 'var(--rest)') }}
          >
            remainder {percent(row.remainder)}
          </span>
        )}
        {tokens.map(({ text }, i) => {
          const weight = row.weights[i] ?? 0;
          return (
            <button
              key={i}
              type="button"
              class={isStrong(weight) ? 'token strong' : 'token'}
              tabIndex={i === row.query ? 0 : -1}
              aria-pressed={i === row.query}
              aria-label={`token ${i}, ${text || 'empty'}, ${i > row.query ? 'later' : percent(weight)}`}
              title={i > row.query ? 'later' : percent(weight)}
              style={{ background: shade(weight) }}
              onClick={() => onChoose(i)}
            >
              {visible(text)}
            </button>
          );
        })}
      </div>
    </section>
  );
}
