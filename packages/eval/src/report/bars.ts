/** Bars with intervals, as HTML: each has its name, its bar and its number on one line, also on a phone. */

export interface Bar {
  name: string;
  value: number;
  /** Ends of an interval, where one is known. */
  low?: number;
  high?: number;
  /** Said beside the number, such as how many documents. */
  note?: string;
}

export interface BarsOptions {
  /** The value of a full bar. */
  largest: number;
  /** A line through all bars, such as what guessing gives. */
  mark?: { value: number; label: string };
  /** Of the numbers. */
  digits?: number;
  caption: string;
}

export function renderBars(bars: readonly Bar[], options: BarsOptions, escaped: (text: string) => string): string {
  const { largest, mark, digits = 1, caption } = options;
  const share = (value: number) => `${(100 * Math.min(1, Math.max(0, value / largest))).toFixed(2)}%`;
  const rule = mark ? `<i class="mark" style="left:${share(mark.value)}"></i>` : '';
  const rows = bars.map(({ name, value, low, high, note }) => {
    const known = low !== undefined && high !== undefined;
    const interval = known
      ? `<i class="interval" style="left:${share(low)};right:calc(100% - ${share(high)})"></i>`
      : '';
    const number = `${value.toFixed(digits)}${known ? ` (${low.toFixed(digits)} to ${high.toFixed(digits)})` : ''}`;
    return (
      `<tr><th scope="row">${escaped(name)}</th>` +
      `<td class="track"><div><b style="width:${share(value)}"></b>${rule}${interval}</div></td>` +
      `<td>${number}${note === undefined ? '' : ` <small>${escaped(note)}</small>`}</td></tr>`
    );
  });
  const legend = mark ? ` The dashed line: ${escaped(mark.label)}.` : '';
  return `<figure><table class="bars"><tbody>\n${rows.join('\n')}\n</tbody></table><figcaption>${escaped(caption)}${legend}</figcaption></figure>`;
}

export const barsStyle = `
.bars { width: 100%; border-collapse: collapse; } .bars th { text-align: left; font-weight: normal; } .bars th, .bars td { padding: .1rem .5rem .1rem 0; border: 0; }
.bars .track { width: 45%; } .bars td:last-child { white-space: nowrap; } .bars .track div { position: relative; height: 1rem; background: var(--faint); }
.bars b { position: absolute; inset: 0 auto 0 0; background: var(--weight); } .bars i { position: absolute; }
.bars .interval { top: .45rem; height: .1rem; background: var(--ink); } .bars .mark { top: -.1rem; bottom: -.1rem; border-left: 2px dashed var(--ink); }
@media (max-width: 560px) { .bars th, .bars td { display: inline-block; } .bars th { flex: 1; } .bars td:last-child { text-align: right; padding: 0; } .bars tr { display: flex; flex-wrap: wrap; justify-content: space-between; margin-bottom: .4rem; } .bars .track { order: 3; width: 100%; padding: 0; } .bars .track div { height: .6rem; } .bars .interval { top: .25rem; } }
@media print { .bars b, .bars .track div { print-color-adjust: exact; } }
`;
