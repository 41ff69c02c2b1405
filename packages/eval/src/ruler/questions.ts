/** Questions about documents, one of which holds the answer: SQuAD (Rajpurkar et al. 2018), HotpotQA (Yang et al. 2018). */
import { UserError } from '@stickbreaking/base';
import { reprOfList } from '../python/literal.js';
import type { Draft, RulerContext, RulerSample } from './context.js';
import { fitted, shuffled } from './context.js';
import type { QuestionSet } from './materials.js';
import { filled } from './templates.js';

const ANSWER_TOKENS = 32;
const ASK =
  'Answer the question based on the given documents. Only give me the answer and do not output any other words.\n\n';
const TEMPLATE = `${ASK}The following are given documents.\n\n{context}\n\n${ASK}Question: {query}`;
const ANSWER = ' Answer:';

/** @throws UserError where there are fewer questions than samples */
export async function writeQuestions(name: string, set: QuestionSet, context: RulerContext): Promise<RulerSample[]> {
  const isHarness = context.form === 'harness';
  // NVIDIA's program makes one set of texts and ends; in the harness the list stays as it was left.
  const list = isHarness ? set : { ...set };
  const { questions } = set;
  if (questions.length < context.samples) {
    throw new UserError(`${name}: ${context.samples} texts need as many questions, and there are ${questions.length}.`);
  }
  const chosen = (sample: number, units: number): readonly string[] => {
    const { own, near } = questions[sample]!;
    // Whoever takes all of them shuffles the list itself, and the next find it so.
    if (units >= list.documents.length) {
      if (context.form === 'nvidia') return shuffled(repeated(list.documents, units));
      list.documents = shuffled(list.documents);
      return list.documents;
    }
    const missing = units - own.length;
    const others = () => {
      const taken = new Set([...own, ...near]);
      return Array.from(list.documents.keys()).filter((index) => !taken.has(index));
    };
    const more =
      missing > near.length
        ? [...near, ...context.random.sample(others(), Math.max(0, missing - near.length))]
        : context.random.sample(near, missing);
    return shuffled([...own, ...more].map((index) => list.documents[index]!));
  };
  return fitted(context, {
    task: name,
    step: 10,
    answerTokens: ANSWER_TOKENS,
    limit: { units: list.documents.length, after: 'growing' },
    make: (units, sample): Draft => {
      const { query, outputs } = questions[sample]!;
      const text = chosen(sample, units)
        .map((document, i) => `Document ${i + 1}:\n${document}`)
        .join('\n\n');
      const asked = filled(TEMPLATE, { context: text, query });
      const prompt = asked + ANSWER;
      // The harness does not count the beginning of the answer.
      const measured = isHarness ? asked : prompt;
      return { prompt, begun: ANSWER, outputs, counted: `${measured} ${reprOfList(outputs)}`, measured };
    },
  });
}

/** So many of them, from the beginning again where they end. */
function repeated<T>(items: readonly T[], count: number): T[] {
  return Array.from({ length: count }, (_, i) => items[i % items.length]!);
}
