/** The browser for tests that need one: where it is on this machine, and how it is started. */
import { existsSync } from 'node:fs';

/** Path of the Chromium or Chrome that is installed, or that CHROME_PATH names. */
export const chromiumPath = [
  process.env.CHROME_PATH,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
].find((path) => path && existsSync(path));

export const chromiumFlags: readonly string[] = [
  ...['--headless', '--no-sandbox', '--disable-quic', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
];

/** Says on the console that a test of `subject` is skipped, if there is no browser. */
export function tellIfMissing(subject: string): void {
  if (!chromiumPath)
    console.warn(`${subject} is not tested in a browser: no Chromium found. Install one, or name it with CHROME_PATH.`);
}
