/** The texts of others that RULER is made of. None comes with the program; each is read when it is first needed. */
import type { IndexedWords } from './words.js';

/** A question, and which of the documents belong to it. */
export interface Question {
  query: string;
  outputs: readonly string[];
  /** Indices of the documents that hold the answer. */
  own: readonly number[];
  /** Indices of others of the same article. */
  near: readonly number[];
}

/** Questions and all their documents. */
export interface QuestionSet {
  questions: readonly Question[];
  /** Shuffled in place where all of them are taken. */
  documents: readonly string[];
}

export interface RulerMaterials {
  /** The words of the essays. */
  essay(): readonly string[];
  /** The sentences of the essays' first words. */
  sentences(words: number): readonly string[];
  /** Pairs of an adjective and a noun. */
  needleWords(): IndexedWords;
  /** Nouns, adjectives and verbs. */
  allWords(): readonly string[];
  squad(): QuestionSet;
  hotpot(): QuestionSet;
}

/** SQuAD 2.0 as published; questions without an answer are left out. */
export function squadQuestions(json: unknown): QuestionSet {
  const { data } = json as {
    data: {
      paragraphs: {
        context: string;
        qas: { question: string; is_impossible: boolean; answers: { text: string }[] }[];
      }[];
    }[];
  };
  const documents = inOrder(data.flatMap(({ paragraphs }) => paragraphs.map(({ context }) => context)));
  const indices = new Map(documents.map((text, index) => [text, index]));
  const questions = data.flatMap(({ paragraphs }) => {
    const article = paragraphs.map(({ context }) => indices.get(context)!);
    return paragraphs.flatMap(({ context, qas }) => {
      const own = indices.get(context)!;
      return qas
        .filter(({ is_impossible }) => !is_impossible)
        .map(({ question, answers }) => ({
          query: question,
          outputs: answers.map(({ text }) => text),
          own: [own],
          near: article.filter((index) => index !== own),
        }));
    });
  });
  return { questions, documents };
}

/** HotpotQA's distractor setting as published. */
export function hotpotQuestions(json: unknown): QuestionSet {
  const data = json as { question: string; answer: string; context: [title: string, sentences: string[]][] }[];
  const written = ([title, sentences]: [string, string[]]) => `${title}\n${sentences.join('')}`;
  const documents = inOrder(data.flatMap(({ context }) => context.map(written)));
  const indices = new Map(documents.map((text, index) => [text, index]));
  const questions = data.map(({ question, answer, context }) => ({
    query: question,
    outputs: [answer],
    own: context.map((one) => indices.get(written(one))!),
    near: [],
  }));
  return { questions, documents };
}

/** Each once, by code point. */
function inOrder(texts: readonly string[]): string[] {
  const points = (text: string) => Array.from(text, (character) => character.codePointAt(0)!);
  const compare = (a: string, b: string) => {
    const [left, right] = [points(a), points(b)];
    const at = left.findIndex((point, i) => point !== right[i]);
    if (at < 0) return left.length - right.length;
    return at < right.length ? left[at]! - right[at]! : 1;
  };
  return [...new Set(texts)].sort((a, b) => (isPlain(a) && isPlain(b) ? (a < b ? -1 : a > b ? 1 : 0) : compare(a, b)));
}

/** Without characters of two UTF-16 units, whose order is another. */
const isPlain = (text: string) => !/[\ud800-\udfff]/.test(text);

/** The sentences of the first words of a text, each number of words cut once. */
export function sentencesOf(
  punkt: () => { sentences(text: string): string[] },
  words: () => readonly string[],
  repeats = false,
): (count: number) => readonly string[] {
  const cut = new Map<number, readonly string[]>();
  return (count) => {
    if (!cut.has(count)) {
      const all = words();
      // More words than there are come from the beginning again, where a text is asked to be longer.
      const taken = repeats ? Array.from({ length: count }, (_, i) => all[i % all.length]!) : all.slice(0, count);
      cut.set(count, punkt().sentences(taken.join(' ').trim()));
    }
    return cut.get(count)!;
  };
}
