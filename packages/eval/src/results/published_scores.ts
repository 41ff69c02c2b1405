/** What published models score on tasks of the suite: shares in percent, perplexities as they are. */

const PAPER = 'the stick-breaking paper, tables 2 and 3 (https://arxiv.org/abs/2410.17980)';
const TINY_LLAMA = 'EVAL.md of jzhang38/TinyLlama, 3T tokens; MMLU from the stick-breaking paper, table 3';
const PYTHIA = 'evals/pythia-v1 and evals/opt of EleutherAI/pythia, an earlier release of the harness';
const GPT_2 = 'huggingface/transformers #13761';

/** A model with the scores that its source gives, by `figureName`. */
export interface PublishedModel {
  name: string;
  source: string;
  scores: Readonly<Record<string, number>>;
}

/** The name of a figure in `scores`. */
export const figureName = (task: string, metric: string, numFewshot: number): string =>
  numFewshot === 0 ? `${task} ${metric}` : `${task} ${metric}, ${numFewshot} examples`;

const named = (names: readonly string[], scores: readonly number[]) =>
  Object.fromEntries(scores.flatMap((score, i) => (Number.isNaN(score) ? [] : [[names[i]!, score]])));

/** A figure that the source does not give. */
const none = Number.NaN;

const paperFigures = [
  figureName('arc_challenge', 'acc_norm', 0),
  figureName('arc_easy', 'acc_norm', 0),
  figureName('hellaswag', 'acc_norm', 0),
  figureName('openbookqa', 'acc_norm', 0),
  figureName('piqa', 'acc_norm', 0),
  figureName('race', 'acc', 0),
  figureName('sciq', 'acc', 0),
  figureName('winogrande', 'acc', 0),
  figureName('wikitext', 'word_perplexity', 0),
  figureName('mmlu', 'acc', 0),
  figureName('mmlu', 'acc', 5),
];
const pythiaFigures = [
  figureName('arc_easy', 'acc', 0),
  figureName('arc_easy', 'acc_norm', 0),
  figureName('arc_challenge', 'acc', 0),
  figureName('arc_challenge', 'acc_norm', 0),
  figureName('piqa', 'acc', 0),
  figureName('piqa', 'acc_norm', 0),
  figureName('sciq', 'acc', 0),
  figureName('sciq', 'acc_norm', 0),
  figureName('winogrande', 'acc', 0),
];

const model = (name: string, source: string, figures: readonly string[], ...scores: number[]): PublishedModel => ({
  ...{ name, source },
  scores: named(figures, scores),
});

/** The paper's own models first. */
export const publishedModels: readonly PublishedModel[] = [
  model('softmax 1B', PAPER, paperFigures, 35.8, 65.6, 64.8, 38.8, 75.0, 36.5, 90.5, 63.4, 13.8, 25.7, 25.2),
  model('stick-breaking 1B', PAPER, paperFigures, 37.7, 67.6, 65.4, 36.6, 76.0, 37.4, 91.9, 63.1, 13.4, 28.4, 29.3),
  model('softmax 3B', PAPER, paperFigures, 42.2, 73.1, 73.2, 40.8, 78.8, 37.4, 93.5, 67.6, 11.3, 46.1, 49.1),
  model('stick-breaking 3B', PAPER, paperFigures, 44.9, 74.3, 74.1, 40.4, 79.7, 37.8, 93.9, 68.0, 10.8, 50.8, 52.9),
  model('Gemma2-2B', PAPER, paperFigures, 50.0, 80.2, 72.9, 41.8, 79.2, 37.3, 95.8, 68.8, 13.1, 49.3, 53.1),
  model('Qwen1.5-4B', PAPER, paperFigures, 39.6, 61.5, 71.4, 40.0, 77.0, 38.2, 90.0, 68.1, 12.5, 54.2, 55.2),
  model(
    ...(['TinyLlama-1.1B', TINY_LLAMA, paperFigures] as const),
    ...[30.12, 55.25, 59.2, 36.0, 73.29, none, none, 59.12, none, 25.3, 26.0],
  ),
  model('Pythia-70M', PYTHIA, pythiaFigures, 37.37, 35.02, 18.09, 22.1, 59.47, 59.14, 60.1, 55.2, 52.8),
  model('Pythia-410M', PYTHIA, pythiaFigures, 52.1, 45.79, 21.33, 24.32, 66.76, 67.14, 81.1, 72.1, 53.67),
  model('Pythia-1B', PYTHIA, pythiaFigures, 56.94, 49.03, 24.4, 27.13, 70.73, 69.31, 84.0, 76.0, 53.67),
  model('OPT-125M', PYTHIA, pythiaFigures, 43.52, 39.98, 18.94, 22.78, 63.0, 62.02, 75.1, 66.9, 50.28),
  model('GPT-2', GPT_2, [figureName('wikitext', 'word_perplexity', 0)], 37.37),
];
