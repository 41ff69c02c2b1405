/** Documents with what was asked and answered, as one reads them. */
import type { ReportBlock } from '../report/report.js';
import type { TaskOutcome } from '../runner/run.js';
import type { AnswerOf, RequestKind, RequestOf } from '../tasks/task.js';

/** The first documents of a task. */
export function shownDocuments({ task, scores, answers }: TaskOutcome, count: number): ReportBlock[] {
  return task.examples.slice(0, count).map((document, d) => {
    const metrics = Object.entries(scores[d]!).flatMap(([filter, score]) =>
      Object.entries(score.metrics).map(([name, value]) => {
        const shown = typeof value === 'number' ? `${value}` : value[0].toFixed(3);
        return filter === 'none' ? `${name} ${shown}` : `${name} (${filter}) ${shown}`;
      }),
    );
    const text = [...sections(document.requests, answers[d]!, document.target), '', `score: ${metrics.join(', ')}`];
    return { kind: 'code', summary: `${task.name}, document ${document.id}`, text: text.join('\n') };
  });
}

function sections(
  requests: readonly RequestOf<RequestKind>[],
  answers: readonly AnswerOf<RequestKind>[],
  target: string | number,
): string[] {
  const [first] = requests;
  const [answer] = answers;
  if (first === undefined || answer === undefined) return [];
  if ('text' in first) return ['— text', first.text];
  if ('text' in answer) return ['— prompt', first.context, '— answer', answer.text, '— right', `${target}`];
  const asked = requests as RequestOf<'loglikelihood'>[];
  const likelihoods = (answers as AnswerOf<'loglikelihood'>[]).map(({ logLikelihood }) => logLikelihood);
  // Where contexts differ, they are the choices.
  const alike = asked.every(({ context }) => context === first.context);
  const best = likelihoods.indexOf(Math.max(...likelihoods));
  const choices = asked.map(({ context, continuation }, i) => {
    const marks = `${i === target ? '✓' : ' '}${i === best ? '►' : ' '}`;
    return `${marks} ${likelihoods[i]!.toFixed(3).padStart(9)}  ${(alike ? continuation : context + continuation).trim()}`;
  });
  const legend = `— log-likelihoods (► the likeliest${typeof target === 'number' ? ', ✓ right' : ''})`;
  return [...(alike ? ['— prompt', first.context] : []), legend, ...choices];
}
