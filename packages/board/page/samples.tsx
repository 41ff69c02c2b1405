/** Texts that the models wrote while they were trained, side by side, at a step of one's choice. */
import { useState } from 'preact/hooks';
import type { Shown } from './shown.js';
import { Swatch } from './swatch.js';

export function Samples({ shown }: { shown: readonly Shown[] }) {
  const [chosen, setChosen] = useState<number | undefined>(undefined);
  const all = shown.flatMap(({ details }) => details?.samples ?? []);
  const steps = [...new Set(all.map(({ step }) => step))].sort((a, b) => a - b);
  const prompts = [...new Set(all.map(({ prompt }) => prompt))];
  if (steps.length === 0) {
    return (
      <p>
        These runs have written no samples. With{' '}
        <code>samples: {'{ prompts: ["Once upon a time"], everySteps: 100 }'}</code> in its file, a run writes some as
        it trains.
      </p>
    );
  }
  const at = chosen === undefined ? steps.length - 1 : steps.findLastIndex((step) => step <= chosen);
  return (
    <>
      <label class="step">
        step
        <input
          type="range"
          min="0"
          max={steps.length - 1}
          value={at}
          aria-valuetext={`step ${steps[at]}`}
          onInput={(event) => setChosen(steps[Number(event.currentTarget.value)])}
        />
        <output>{steps[at]}</output>
      </label>
      {prompts.map((prompt) => (
        <section key={prompt}>
          <h2>{prompt}</h2>
          <div class="samples">
            {shown.map((run) => {
              const sample = run.details?.samples.findLast((one) => one.prompt === prompt && one.step <= steps[at]!);
              return (
                sample && (
                  <figure key={run.name}>
                    <figcaption>
                      <Swatch run={run} /> {run.short}, step {sample.step}
                    </figcaption>
                    <blockquote>
                      <b>{prompt}</b>
                      {sample.text}
                    </blockquote>
                  </figure>
                )
              );
            })}
          </div>
        </section>
      ))}
    </>
  );
}
