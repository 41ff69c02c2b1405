/** What was expected, by the paper or whoever asks, what was found, and whether the two agree. Disagreements come first. */

export interface Finding {
  /** What is expected, in a sentence. */
  expected: string;
  /** Where it says so, such as "figure 3". */
  source: string;
  /** What was found, with the figures. */
  found: string;
  /** `open` if this run cannot tell. */
  verdict: 'agrees' | 'disagrees' | 'open';
}

const order = ['disagrees', 'open', 'agrees'] as const;
export const verdictWords = { agrees: '✓ agrees', disagrees: '✗ disagrees', open: '? cannot tell' } as const;

/** Disagreements, then what stays open, then agreements; each in its own order. */
export function sortFindings(findings: readonly Finding[]): Finding[] {
  return order.flatMap((verdict) => findings.filter((finding) => finding.verdict === verdict));
}

/** One sentence that counts them, the disagreements first. */
export function summariseFindings(findings: readonly Finding[], expectedBy = 'the paper'): string {
  const count = (verdict: Finding['verdict']) => findings.filter((finding) => finding.verdict === verdict).length;
  const open = count('open') > 0 ? `, ${count('open')} cannot be told from this run` : '';
  const expectations = findings.length === 1 ? 'expectation' : 'expectations';
  return `Of ${findings.length} ${expectations}, ${count('disagrees')} found otherwise here, ${count('agrees')} found as ${expectedBy === 'the paper' ? 'in the paper' : 'expected'}${open}.`;
}
