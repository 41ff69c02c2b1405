// Kinds of files: what a name's ending, or `format`, says of what is in a file and how it is compressed.

/** What is in a file: running text, one JSON value a line, JSON values (an array or one after the other), or columns. */
export const contents = ['txt', 'jsonl', 'json', 'parquet'] as const;
export type Content = (typeof contents)[number];

const compressions = ['gz', 'zst', 'bz2', 'xz'] as const;
export type Compression = (typeof compressions)[number];

/** Parquet compresses its own pages. */
const compressible = ['txt', 'jsonl', 'json'] as const;

/** As `format` and the manifest of shards spell it. */
export type SourceFormat = Content | `${(typeof compressible)[number]}.${Compression}`;

/** All formats that can be read, compressed or not. */
export const formats: readonly SourceFormat[] = [
  ...contents,
  ...compressible.flatMap((content) => compressions.map((one): SourceFormat => `${content}.${one}`)),
];

const endings: Readonly<Record<string, Content>> = {
  txt: 'txt',
  text: 'txt',
  raw: 'txt', // WikiText's own
  jsonl: 'jsonl',
  ndjson: 'jsonl',
  json: 'json',
  parquet: 'parquet',
};

const compressionEndings: Readonly<Record<string, Compression>> = {
  gz: 'gz',
  gzip: 'gz',
  zst: 'zst',
  zstd: 'zst',
  bz2: 'bz2',
  xz: 'xz',
};

/** For messages and help. */
export const knownEndings = `${Object.keys(endings)
  .map((ending) => `.${ending}`)
  .join(', ')}, or one of these but .parquet with ${compressions.map((ending) => `.${ending}`).join(', ')} after it`;

/** The kind of file that a path's ending names, in upper or lower case. */
export function formatOf(path: string): SourceFormat | undefined {
  const { compression, rest } = splitCompression(path);
  const content = endings[lastEnding(rest)];
  return content && join(content, compression);
}

/** A format that a user named: one without a compression leaves that to the file's ending. */
export function namedFormat(format: SourceFormat, path: string): SourceFormat {
  if (format.includes('.')) return format;
  return join(format as Content, splitCompression(path).compression) ?? format;
}

export function partsOf(format: SourceFormat): { content: Content; compression: Compression | undefined } {
  const [content, compression] = format.split('.');
  return { content: content as Content, compression: compression as Compression | undefined };
}

function join(content: Content, compression: Compression | undefined): SourceFormat | undefined {
  if (compression === undefined) return content;
  return content === 'parquet' ? undefined : `${content}.${compression}`;
}

function splitCompression(path: string): { rest: string; compression: Compression | undefined } {
  const compression = compressionEndings[lastEnding(path)];
  return { compression, rest: compression ? path.slice(0, path.lastIndexOf('.')) : path };
}

function lastEnding(path: string): string {
  return /\.([^./\\]*)$/.exec(path)?.[1]?.toLowerCase() ?? '';
}
