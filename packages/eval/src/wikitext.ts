/**
 * WikiText's raw files: pages under headings of one equals sign, tokens apart by spaces. The rules that put a page back
 * into running text are those of lm-evaluation-harness's `wikitext` task, so that word perplexities compare.
 */

/** A heading of the first level, such as ` = Robert Boulter = `; deeper ones have more equals signs. */
const HEADING = /^ = (?!= )(.*?) = ?\s*$/;

/** Whether a text looks like WikiText raw. */
export function isWikiText(text: string): boolean {
  return (
    text
      .slice(0, 100_000)
      .split('\n')
      .some((line) => isHeading(line)) && / @[-,.]@ /.test(text)
  );
}

function isHeading(line: string): boolean {
  return HEADING.test(line) && !/ = = /.test(line);
}

/** The pages of a raw file, each with its heading; what stands before the first heading is dropped if it is blank. */
export function wikiTextPages(text: string): string[] {
  const pages: string[][] = [[]];
  for (const line of text.split('\n')) {
    if (isHeading(line)) pages.push([]);
    pages.at(-1)!.push(line);
  }
  return pages.map((lines) => lines.join('\n')).filter((page) => page.trim() !== '');
}

/** Joins what the corpus's tokenizer took apart. */
export function detokenizeWikiText(page: string): string {
  let text = page.replaceAll("s '", "s'");
  for (const sign of ['-', ',', '.']) text = text.replaceAll(` @${sign}@ `, sign);
  for (const sign of [':', ';', '.', '!', '?', ',']) text = text.replaceAll(` ${sign} `, `${sign} `);
  text = text
    .replace(/\(\s*([^)]*?)\s*\)/g, '($1)')
    .replace(/\[\s*([^\]]*?)\s*\]/g, '[$1]')
    .replace(/\{\s*([^}]*?)\s*\}/g, '{$1}')
    .replace(/"\s*([^"]*?)\s*"/g, '"$1"')
    .replace(/'\s*([^']*?)\s*'/g, "'$1'");
  return text
    .replaceAll('= = = =', '====')
    .replaceAll('= = =', '===')
    .replaceAll('= =', '==')
    .replaceAll(' \u00b0 ', '\u00b0')
    .replaceAll(' \n', '\n')
    .replaceAll('\n ', '\n')
    .replaceAll(' N ', ' 1 ')
    .replaceAll(" 's", "'s");
}
