/**
 * Multi-query repeated associative recall (MQRAR), section 5.1 of https://arxiv.org/abs/2410.17980, a harder form of
 * the multi-query associative recall of https://arxiv.org/abs/2312.04927. A sequence first assigns a value to each of
 * its variables. Then a variable is asked for, again and again: its answer is its present value, and the token after
 * it assigns a new one, which the next question for it must find.
 *
 *     input   B 6 P 4 E 3 X 1 Z 2 E 2 B 1 E 5 B 4
 *     output  . . . . . . . . . . 3 . 6 . 2 . 1 .
 *
 * Only answers to questions are scored. (A dot is a position that is not.)
 */
import { generator, UserError } from '@stickbreaking/base';

/** The sizes of the task. */
export interface MqrarTask {
  /** Tokens of a sequence: an even number. */
  sequenceLength: number;
  /** Variables, and values, to draw from. Variables are the tokens 0 to variables − 1, values follow. */
  variables: number;
  values: number;
  /** Variables of one sequence, each assigned once at its beginning. */
  pairs: number;
  /**
   * Each sequence draws its number of pairs between this and `pairs`, small ones as often as large ones; default:
   * `pairs`.
   */
  fewestPairs?: number | undefined;
}

/** One sequence of the task. */
export interface MqrarSequence {
  /** [sequenceLength] */
  tokens: Int32Array;
  /** [sequenceLength] the value asked for at a question, −1 elsewhere. */
  targets: Int32Array;
}

/** The targets of positions that are not scored. */
const UNSCORED = -1;

/** @throws UserError if no such sequence exists */
export function checkTask({ sequenceLength, variables, values, pairs, fewestPairs = pairs }: MqrarTask): void {
  if (fewestPairs > pairs)
    throw new UserError(`From ${fewestPairs} to ${pairs} pairs is not a range; expected at most ${pairs}.`);
  if (sequenceLength % 2 !== 0) {
    throw new UserError(`A sequence of ${sequenceLength} tokens cannot be made of pairs; expected an even length.`);
  }
  if (pairs > variables) throw new UserError(`${pairs} pairs need as many variables, and there are ${variables}.`);
  if (2 * pairs + 2 > sequenceLength) {
    throw new UserError(
      `${pairs} pairs and a question need ${2 * pairs + 2} tokens, more than the sequence's ${sequenceLength}.`,
    );
  }
  if (values < 2) throw new UserError(`${values} values leave nothing to recall; expected at least 2.`);
}

/** One sequence; the same random numbers give the same one. */
export function mqrarSequence(task: MqrarTask, random: () => number): MqrarSequence {
  const { sequenceLength, variables, values, pairs: most, fewestPairs: fewest = most } = task;
  const pairs = fewest < most ? Math.floor(fewest * ((most + 1) / fewest) ** random()) : most;
  const tokens = new Int32Array(sequenceLength);
  const targets = new Int32Array(sequenceLength).fill(UNSCORED);
  const chosen = drawDistinct(variables, pairs, random);
  const present = new Int32Array(pairs);
  const newValue = () => variables + Math.floor(random() * values);
  for (let position = 0; position < sequenceLength; position += 2) {
    const assigning = position < 2 * pairs;
    const which = assigning ? position / 2 : Math.floor(random() * pairs);
    tokens[position] = chosen[which]!;
    if (!assigning) targets[position] = present[which]!;
    present[which] = newValue();
    tokens[position + 1] = present[which]!;
  }
  return { tokens, targets };
}

/** The first `count` of a shuffled 0 … size − 1 (Fisher and Yates). */
function drawDistinct(size: number, count: number, random: () => number): Int32Array {
  const all = Int32Array.from({ length: size }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(random() * (size - i));
    [all[i], all[j]] = [all[j]!, all[i]!];
  }
  return all.subarray(0, count);
}

/** A batch of sequences packed end to end, each a document of its own. */
export interface MqrarBatch extends MqrarSequence {
  /** [sequences + 1] */
  cuSeqlens: Int32Array;
}

/** Batch `index` of a stream that `seed` names; streams of different names share no batches. */
export function mqrarBatch(
  task: MqrarTask,
  sequences: number,
  stream: string,
  seed: number,
  index: number,
): MqrarBatch {
  const { sequenceLength } = task;
  const random = generator(seed, `mqrar/${stream}/${index}`);
  const tokens = new Int32Array(sequences * sequenceLength);
  const targets = new Int32Array(sequences * sequenceLength);
  for (let s = 0; s < sequences; s++) {
    const one = mqrarSequence(task, random);
    tokens.set(one.tokens, s * sequenceLength);
    targets.set(one.targets, s * sequenceLength);
  }
  return { tokens, targets, cuSeqlens: Int32Array.from({ length: sequences + 1 }, (_, s) => s * sequenceLength) };
}

/**
 * Where each answer is: for a question at position j, the position of the value last assigned to its variable; −1 where
 * nothing is asked.
 */
export function answerPositions({ tokens, targets }: MqrarSequence): Int32Array {
  const assigned = new Map<number, number>();
  return Int32Array.from(tokens, (variable, position) => {
    if (position % 2 === 1) return -1;
    const answer = targets[position] === UNSCORED ? -1 : (assigned.get(variable) ?? -1);
    assigned.set(variable, position + 1);
    return answer;
  });
}

/** The sequence of figure 4, with letters for variables and digits for values. */
export const paperExample = 'B 6 P 4 E 3 X 1 Z 2 E 2 B 1 E 5 B 4';

/** Letters A to Z are the variables 0 to 25, digits 0 to 9 the values 26 to 35. */
export const exampleAlphabet = { variables: 26, values: 10 } as const;

/** A sequence as the paper writes it, such as `paperExample`, as tokens of `exampleAlphabet`. */
export function parseExample(text: string): MqrarSequence & { labels: string[] } {
  const labels = text.split(' ');
  const { variables } = exampleAlphabet;
  const tokens = Int32Array.from(labels, (label, i) =>
    i % 2 === 0 ? label.charCodeAt(0) - 'A'.charCodeAt(0) : variables + Number(label),
  );
  const present = new Map<number, number>();
  const targets = Int32Array.from(tokens, (token, i) => {
    if (i % 2 === 1) return UNSCORED;
    const answer = present.get(token) ?? UNSCORED;
    present.set(token, tokens[i + 1]!);
    return answer;
  });
  return { tokens, targets, labels };
}
