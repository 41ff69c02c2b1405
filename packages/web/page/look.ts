/** How weights and numbers look. */

/** A share as a colour's strength: its root, so that small ones show as well. The scale on the page says so. */
export const strength = (share: number) => Math.sqrt(Math.min(1, Math.max(0, share)));

/** As CSS, between the paper and a colour. */
export const shade = (share: number, colour = 'var(--accent)') =>
  `color-mix(in srgb, ${colour} ${Math.round(strength(share) * 100)}%, transparent)`;

/** Whether letters on that colour are those of the paper. */
export const isStrong = (share: number) => share >= 0.4;

export const percent = (share: number) => (share < 0.001 ? '<0.1%' : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)}%`);

/** A token's text with what would not be seen. */
export const visible = (text: string) => text.replaceAll('\n', '↵').replaceAll('\t', '⇥') || '∅';

/** The same with its spaces, for lists. */
export const spaced = (text: string) => visible(text).replaceAll(' ', '␣');
