// What surfaces have in common: how files are mutated, and what a command gives on unmutated ones.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { backend } from '../fixtures.mjs';
import { mutateBytes, mutateTree } from '../mutate.mjs';

/** JSON that keeps what YAML can say and JSON cannot. */
export const yamlText = (tree) =>
  JSON.stringify(tree, (_, value) => (typeof value === 'number' && !Number.isFinite(value) ? `<${value}>` : value), 1)
    .replaceAll('"<NaN>"', '.nan')
    .replaceAll('"<Infinity>"', '.inf')
    .replaceAll('"<-Infinity>"', '-.inf');

export const mutatedTree = (tree, mutations) => mutations.reduce((at, seed) => mutateTree(at, seed), tree);
export const mutatedBytes = (bytes, mutations) => mutations.reduce((at, seed) => mutateBytes(at, seed), bytes);
export function mutateFile(path, mutations) {
  writeFileSync(path, mutatedBytes(readFileSync(path), mutations));
}

/** A tree as a file holds it; nothing is left of one that became undefined. */
export const jsonText = (tree) => JSON.stringify(tree) ?? '';

/** A file of JSON is changed as a tree half of the time, anything else as bytes. */
export function mutateAnyFile(path, choose, mutations) {
  if (!path.endsWith('.json') || choose.below(2) === 0) return mutateFile(path, mutations);
  writeFileSync(path, jsonText(mutatedTree(JSON.parse(readFileSync(path)), mutations)));
}

/** All files under a folder. */
export function filesUnder(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .sort();
}

export const evalArguments = (base, rest = []) => [
  ...['--checkpoint', join(base, 'run'), '--data', join(base, 'held-out.jsonl'), '--lengths', '16,32'],
  ...['--max-tokens', '64', '--backend', backend, '--json', ...rest],
];

/** The numbers of sb-eval --json that do not depend on the clock or on paths. */
function scores(stdout) {
  const keep = (key, value) =>
    /second|checkpoint|data|source|path|date|time|tokenizer|file/i.test(key) ? undefined : value;
  return JSON.stringify(JSON.parse(stdout), keep);
}

const known = new Map();
/** What the command gives on the unmutated input, found out once. */
export async function expected(key, find) {
  if (!known.has(key)) known.set(key, find());
  return known.get(key);
}

export async function expectedScores(tools, args) {
  return expected(`eval ${args.join(' ')}`, async () => scores((await tools.run('sb-eval', args)).stdout));
}

/** Wrong where the scores are other than those of the unmutated input. */
export const sameScores =
  (want) =>
  ({ stdout }) =>
    scores(stdout) === want ? undefined : `scores ${scores(stdout)}, not ${want}`;
export const finiteScores = ({ stdout }) =>
  /NaN|null|Infinity/.test(scores(stdout)) ? `scores ${scores(stdout)}` : undefined;

export function lossesOf(folder) {
  return readFileSync(join(folder, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).loss)
    .filter((loss) => loss !== undefined);
}
