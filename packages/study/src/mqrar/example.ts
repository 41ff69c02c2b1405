/** The paper's figure 4: where questions look on one example, and what is found of it. */
import { attentionPicture, type Finding, type ReportBlock } from '@stickbreaking/eval';
import { ids, nameOf, percent, type Results } from './arms.js';
import type { MqrarConfig } from './config.js';
import { bestOf, examples, triedOf } from './plan.js';
import type { MqrarResult } from './run.js';

function bestExample(config: MqrarConfig, results: Results, id: string): MqrarResult | undefined {
  return bestOf(triedOf(examples(config), results).filter(({ arm }) => arm === id))?.result;
}

export function figure4(config: MqrarConfig, results: Results): ReportBlock[] {
  const { example } = config;
  const drawn = (example?.arms ?? []).flatMap((id) => {
    const result = bestExample(config, results, id);
    return result?.example ? [{ name: nameOf(config, id), result, drawing: result.example }] : [];
  });
  if (!example || drawn.length === 0) return [];
  return [
    { kind: 'heading', text: 'Attention on the paper’s example (figure 4)' },
    {
      kind: 'text',
      text: `Other models, of ${example.model.numLayers} layers and ${example.model.hiddenSize} dimensions, trained on ${example.pairs} pairs. Each row is a token that looks back, each column one that is looked at; a frame marks, for each question, where its answer stands.`,
    },
    ...drawn.map(
      ({ name, result, drawing }): ReportBlock => ({
        kind: 'row',
        blocks: drawing.maps.map((map) =>
          attentionPicture(
            {
              ...map,
              weights: Float32Array.from(map.weights),
              remainder: Float32Array.from(map.remainder),
            },
            {
              labels: drawing.labels,
              caption: `${name}, layer ${map.layer + 1}${drawing.maps.length > 2 ? `, head ${map.head + 1}` : ''} (${percent(result.accuracy)} right answers)`,
              name: `figure-4-${name.replace(/\W+/g, '-')}-layer-${map.layer + 1}-head-${map.head + 1}`,
              marked: drawing.questions.map(({ position, answerPosition, expected }) => ({
                query: position,
                key: answerPosition,
                label: `the answer ${expected} stands here`,
              })),
            },
          ),
        ),
      }),
    ),
    {
      kind: 'table',
      columns: ['model', 'layer', 'weight on the answer', 'weight on older values', 'answers to the example'],
      rows: drawn.flatMap(({ name, drawing }) =>
        drawing.retrieval.map(({ layer, head, answer, older }) => [
          name,
          `${layer + 1}, head ${head + 1}`,
          answer.toFixed(3),
          older.toFixed(3),
          drawing.questions
            .map(({ expected, answered }) => (expected === answered ? answered : `${answered} (not ${expected})`))
            .join(' '),
        ]),
      ),
    },
    {
      kind: 'text',
      text: 'The table’s weights are means over the questions of fresh sequences: what a question gives to the place of its variable’s present value, and to places of older values of the same variable.',
    },
  ];
}

export function findExample(config: MqrarConfig, results: Results): Finding[] {
  const stick = bestExample(config, results, ids.stickBreaking);
  const rope = bestExample(config, results, ids.rope);
  if (!stick?.example || !rope?.example) return [];
  const most = (result: MqrarResult) =>
    result.example!.retrieval.reduce((best, one) => (one.answer > best.answer ? one : best));
  const wrong = ({ example }: MqrarResult) =>
    example!.questions.filter(({ expected, answered }) => expected !== answered);
  const [s, r] = [most(stick), most(rope)];
  const mistakes = wrong(rope);
  return [
    {
      expected: 'With stick-breaking the attention of a question goes to the latest assignment of its variable.',
      source: 'figure 4',
      found: `In layer ${s.layer + 1} questions give ${percent(s.answer)} to the present value and ${percent(s.older)} to older ones; ${wrong(stick).length} of ${stick.example.questions.length} answers to the example are wrong.`,
      verdict: s.answer > 0.5 && s.answer > 4 * s.older && wrong(stick).length === 0 ? 'agrees' : 'disagrees',
    },
    {
      expected: 'Softmax+RoPE is distracted by an older assignment of the same variable.',
      source: 'figure 4',
      found: `In layer ${r.layer + 1} questions give ${percent(r.answer)} to the present value and ${percent(r.older)} to older ones; ${mistakes.length} of ${rope.example.questions.length} answers to the example are wrong${rope.accuracy < 0.5 ? `; it has not learnt the task (${percent(rope.accuracy)} right answers)` : ''}.`,
      // A model that has not learnt the task looks nowhere in particular.
      verdict: rope.accuracy < 0.5 ? 'open' : 4 * r.older > r.answer || mistakes.length > 0 ? 'agrees' : 'disagrees',
    },
  ];
}
