// Notices: what a user should know about the data but what stops nothing, such as files that are skipped.
/** Receives one line about the data that stops nothing, such as files that are skipped. */
export type OnNotice = (line: string) => void;

const told = new Set<string>();

/** Where no one listens: a line on stderr, the same one once in a process. */
export const tellOnce: OnNotice = (line) => {
  if (told.has(line)) return;
  told.add(line);
  process.stderr.write(`${line}\n`);
};
