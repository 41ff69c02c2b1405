/** A text of one's own through a checkpoint: where its heads look, what they leave, and how it goes on. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Shown } from './shown.js';
import type { Source } from './source.js';

interface Reach {
  distance: number;
  remainder: number;
}

/** What the board answers: `AttentionLook` of `@stickbreaking/eval`. */
interface Look {
  checkpoint: string;
  attention: { kind: string; attendCurrent?: boolean; position?: unknown };
  leavesRemainder: boolean;
  tokens: string[];
  cut: boolean;
  reach: Reach[][];
  layer: number;
  pictures: string[];
  style: string;
  continuation: string;
}

interface Question {
  run: string;
  checkpoint: string;
  text: string;
  layer: number;
}

type Answer = { state: 'none' | 'waiting' } | { state: 'failed'; why: string } | { state: 'here'; look: Look };

async function ask(question: Question): Promise<Answer> {
  try {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch('api/look', { method: 'POST', headers, body: JSON.stringify(question) });
    const answer = (await response.json()) as Look & { error?: string };
    return response.ok
      ? { state: 'here', look: answer }
      : { state: 'failed', why: answer.error ?? response.statusText };
  } catch {
    return { state: 'failed', why: 'sb-board does not answer.' };
  }
}

export function Attention({ shown, state }: { shown: readonly Shown[]; state: Source['state'] }) {
  const places = shown.flatMap(({ name, short, details }) =>
    (details?.checkpoints ?? []).map(({ name: checkpoint, isLatest, isBest }) => {
      const marks = [isLatest && 'latest', isBest && 'best'].filter(Boolean).join(', ');
      const label = `${short}, ${checkpoint.replace(/^step-0*/, 'step ')}${marks && ` (${marks})`}`;
      return { key: `${name}\n${checkpoint}`, run: name, checkpoint, label, isLatest };
    }),
  );
  const [chosen, setChosen] = useState<string | undefined>(undefined);
  const [text, setText] = useState('The people of the United States');
  const [answer, setAnswer] = useState<Answer>({ state: 'none' });
  const asked = useRef(0);
  const place = places.find(({ key }) => key === chosen) ?? places.find(({ isLatest }) => isLatest) ?? places.at(-1);
  if (state === 'file') return <p>A report has no models in it: sb-board shows where they look.</p>;
  if (!place) return <p>These runs have no checkpoints yet.</p>;
  const look = async (layer: number) => {
    const number = ++asked.current;
    if (layer === 0 || answer.state !== 'here') setAnswer({ state: 'waiting' });
    const got = await ask({ run: place.run, checkpoint: place.checkpoint, text, layer });
    if (number === asked.current) setAnswer(got);
  };
  return (
    <>
      <form
        class="look"
        onSubmit={(event) => {
          event.preventDefault();
          look(0);
        }}
      >
        <label>
          checkpoint
          <select value={place.key} onChange={(event) => setChosen(event.currentTarget.value)}>
            {places.map(({ key, label }) => (
              <option key={key} value={key}>
                {label}
              </option>
            ))}
          </select>
        </label>
        <label class="text">
          text
          <textarea rows={3} maxLength={10_000} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <button type="submit" disabled={text === '' || answer.state === 'waiting'}>
          Look
        </button>
      </form>
      <div role="status">
        {answer.state === 'waiting' && <p>Reading the checkpoint and the text …</p>}
        {answer.state === 'failed' && <p class="fault">{answer.why}</p>}
      </div>
      {answer.state === 'here' && <Looked look={answer.look} text={text} onLayer={look} />}
    </>
  );
}

function Looked({ look, text, onLayer }: { look: Look; text: string; onLayer: (layer: number) => void }) {
  const asked = useRef(text);
  useEffect(() => {
    asked.current = text;
  }, [look.checkpoint, look.continuation]);
  const { attention, leavesRemainder, reach, layer } = look;
  const current = { true: ', with the current token', false: ', without the current token' }[
    String(attention.attendCurrent)
  ];
  return (
    <>
      <h2>How it goes on</h2>
      <blockquote>
        <b>{asked.current}</b>
        {look.continuation}
      </blockquote>
      <p class="facts">
        {look.checkpoint} · {attention.kind}
        {current} · always the likeliest token
      </p>
      <h2>Where its heads look</h2>
      <p class="facts">
        Tokens back, on average over the text
        {leavesRemainder && ', and the share of the stick that is left over, given to no token'}. A layer’s name shows
        its heads.
      </p>
      <div class="scroll">
        <table class="reach">
          <thead>
            <tr>
              <th scope="col">layer</th>
              {reach[0]!.map((_, head) => (
                <th scope="col" key={head}>
                  head {head}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {reach.map((heads, l) => (
              <tr key={l} class={l === layer ? 'chosen' : ''}>
                <th scope="row">
                  <button type="button" aria-pressed={l === layer} onClick={() => onLayer(l)}>
                    layer {l}
                  </button>
                </th>
                {heads.map(({ distance, remainder }, head) => (
                  <td key={head}>
                    {distance.toFixed(1)}
                    {leavesRemainder && <small> left {(100 * remainder).toFixed(0)} %</small>}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <Pictures look={look} />
    </>
  );
}

/** The heads' pictures. A cell says its weight where it is pointed at, touched, or reached by the arrow keys. */
function Pictures({ look }: { look: Look }) {
  const [said, setSaid] = useState('');
  const tell = (event: Event) => {
    const said = (event.target as Element).closest?.('.sb-point')?.querySelector('.sb-said')?.textContent;
    if (said) setSaid(said);
  };
  return (
    <>
      <h2>Layer {look.layer}</h2>
      <p class="facts">
        Each row is a token and shows what it gives to those before it
        {look.leavesRemainder && '; the column ∅ is what it leaves'}.
        {look.cut && ` The first ${look.tokens.length} tokens are drawn.`}
      </p>
      <Scale />
      <p class="said" role="status">
        {said || 'Point at a cell, or touch it, for its weight.'}
      </p>
      <style>{look.style}</style>
      <div class="heads" onPointerOver={tell} onPointerDown={tell}>
        {look.pictures.map((svg, head) => (
          <figure key={head}>
            <figcaption>head {head}</figcaption>
            <div class="scroll" dangerouslySetInnerHTML={{ __html: svg }} />
          </figure>
        ))}
      </div>
    </>
  );
}

/** What the colours stand for. */
function Scale() {
  return (
    <p class="scale">
      0 <span aria-hidden="true" /> 1
    </p>
  );
}
