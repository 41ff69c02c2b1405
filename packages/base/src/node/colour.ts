/** Colour, where there is a terminal that shows it: NO_COLOR, FORCE_COLOR and TERM count as Node reads them. */
import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

/** What of a stream says whether it shows colour. */
export interface Coloured {
  isTTY?: boolean;
  /** Whether it shows colour, as `tty.WriteStream` tells from the environment; a stream without it shows none. */
  hasColors?(): boolean;
}

// Whether the stream shows it is asked here; newer versions of Node would ask about standard output.
const styled = styleText as (style: Style, text: string, options: { validateStream: boolean }) => string;

/** The text in a style such as `red` or `bold`, or as it is where the stream shows no colour. */
export function painted(style: Style, text: string, stream: Coloured): string {
  return stream.isTTY && stream.hasColors?.() ? styled(style, text, { validateStream: false }) : text;
}

/** A table of text whose first line stands out. */
export function withHeading(table: string, stream: Coloured = process.stdout): string {
  const end = table.indexOf('\n');
  return end < 0 ? table : painted('bold', table.slice(0, end), stream) + table.slice(end);
}
