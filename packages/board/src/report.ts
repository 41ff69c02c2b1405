/** The board as a file: the page with its runs inside, which opens from disk and asks for nothing. */
import { readPage } from './page_file.js';
import type { WholeRun } from './run_data.js';

/** Where the page looks for runs that it holds itself. */
const place = '<script id="runs" type="application/json"></script>';

/**
 * @param title of the page
 * @returns HTML
 */
export function renderReport(runs: readonly WholeRun[], title: string): string {
  const json = JSON.stringify({ title, runs }).replaceAll('<', '\\u003c');
  const page = readPage();
  if (!page.includes(place)) throw new Error('the page has no place for runs');
  return page.replace(place, () => place.replace('></', () => `>${json}</`));
}
