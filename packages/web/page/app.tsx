/** The page: files in, then a text and what the model makes of it. */
import { formatCount } from '@stickbreaking/base';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Client } from './client.js';
import { Drop } from './drop.js';
import type { Facts, Reading } from './engine.js';
import { Heads } from './heads.js';
import { HeadMap } from './map.js';
import { Next } from './next.js';
import { type Chosen, rowOf } from './rows.js';
import { Tokens } from './tokens.js';

const BEGINNING = 'The people of the United States';

export function App({ client }: { client: Client }) {
  const [facts, setFacts] = useState<Facts>();
  const [problem, setProblem] = useState<string>();
  const [busy, setBusy] = useState<string>();

  const open = async (files: readonly File[]) => {
    setBusy('Opening the model …');
    setProblem(undefined);
    try {
      setFacts(await client.open(files));
    } catch (error) {
      setProblem((error as Error).message);
    }
    setBusy(undefined);
  };

  return (
    <>
      <header>
        <h1>What a model attends to</h1>
        {facts && <p class="facts">{factsLine(facts)}</p>}
      </header>
      <main>
        {problem && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <Drop onFiles={open} small={facts !== undefined} busy={busy} />
        {facts && <Text key={facts} client={client} facts={facts} onProblem={setProblem} />}
      </main>
    </>
  );
}

const factsLine = ({ parameters, numLayers, numHeads, attention, backend }: Facts) =>
  `${formatCount(parameters)} parameters, ${plural(numLayers, 'layer')} of ${plural(numHeads, 'head')}, ${attention}; computed ${
    backend === 'webgpu' ? 'by WebGPU' : 'on the processor'
  }`;

const plural = (count: number, what: string) => `${count} ${what}${count === 1 ? '' : 's'}`;

interface TextProps {
  client: Client;
  facts: Facts;
  onProblem(problem: string | undefined): void;
}

function Text({ client, facts, onProblem }: TextProps) {
  const [text, setText] = useState(BEGINNING);
  const [reading, setReading] = useState<Reading>();
  const [chosen, setChosen] = useState<Chosen>({ layer: facts.numLayers - 1, head: undefined, query: undefined });
  const [isWriting, setWriting] = useState(false);
  const wanted = useRef(text);
  const running = useRef(false);

  // One reading at a time, and always of the newest text.
  const read = async () => {
    if (running.current) return;
    running.current = true;
    try {
      for (let done: string | undefined; done !== wanted.current; ) {
        done = wanted.current;
        const made = await client.read(done);
        setReading(made);
        setChosen((before) =>
          before.query === undefined || before.query < made.tokens.length ? before : { ...before, query: undefined },
        );
        onProblem(undefined);
      }
    } catch (error) {
      onProblem((error as Error).message);
    }
    running.current = false;
  };
  const change = (next: string) => {
    wanted.current = next;
    setText(next);
    void read();
  };
  useEffect(() => void read(), []);

  const write = async () => {
    if (isWriting) return client.stop();
    setWriting(true);
    try {
      let longer = wanted.current;
      await client.write(longer, Date.now() % 2 ** 31, (piece) => {
        longer += piece;
        setText(longer);
      });
      change(longer);
    } catch (error) {
      onProblem((error as Error).message);
    }
    setWriting(false);
  };

  const row = reading && rowOf(reading, facts, chosen);
  return (
    <>
      <section class="text">
        <label for="text">Text</label>
        <textarea
          id="text"
          rows={4}
          value={text}
          readOnly={isWriting}
          spellcheck={false}
          onInput={(event) => change(event.currentTarget.value)}
        />
        <button type="button" onClick={write}>
          {isWriting ? 'Stop' : 'Let it write on'}
        </button>
        {reading && (
          <small>
            {plural(reading.tokens.length, 'token')}
            {reading.cut > 0 && ` (the last; ${reading.cut} before them are left out)`},{' '}
            {Math.round(reading.milliseconds)} ms
          </small>
        )}
      </section>
      {reading && row && (
        <>
          <Tokens reading={reading} row={row} facts={facts} onChoose={(query) => setChosen({ ...chosen, query })} />
          <Next next={reading.next} onChoose={(more) => change(text + more)} />
          <HeadMap reading={reading} facts={facts} chosen={chosen} row={row} onChoose={setChosen} />
          <Heads reading={reading} facts={facts} chosen={chosen} onChoose={setChosen} />
        </>
      )}
    </>
  );
}
