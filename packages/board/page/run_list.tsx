/** The list of runs: which are shown, and how far each is. */
import type { RunState, RunSummary } from '../src/run_data.js';
import { formatCount, formatNumber, shortNames } from './look.js';
import type { Change, Settings } from './settings.js';
import type { Shown } from './shown.js';
import type { Run } from './source.js';
import { Swatch } from './swatch.js';
import { useMedia } from './use_media.js';

interface Props {
  runs: readonly Run[];
  shown: readonly Shown[];
  settings: Settings;
  change: Change;
}

const signs: Record<RunState, string> = { training: '▶', finished: '✓', stopped: '■' };

export function RunList({ runs, shown, settings, change }: Props) {
  const isNarrow = useMedia('(max-width: 760px)');
  const all = runs.map(({ summary }) => summary.name);
  const short = shortNames(all);
  const selected = shown.map(({ name }) => name);
  const filter = settings.filter.toLowerCase();
  const listed = all.filter((name) => name.toLowerCase().includes(filter));
  const choose = (names: readonly string[]) => change({ selected: all.filter((name) => names.includes(name)) });
  return (
    <nav aria-label="Runs">
      <details open={!isNarrow}>
        <summary>
          {runs.length} {runs.length === 1 ? 'run' : 'runs'}, {shown.length} shown
        </summary>
        {runs.length > 5 && (
          <input
            type="search"
            placeholder="filter by name"
            aria-label="Filter runs by name"
            value={settings.filter}
            onInput={(event) => change({ filter: event.currentTarget.value })}
          />
        )}
        {runs.length > 1 && (
          <p class="choose">
            <button type="button" onClick={() => choose([...selected, ...listed])}>
              all
            </button>
            <button type="button" onClick={() => choose(selected.filter((name) => !listed.includes(name)))}>
              none
            </button>
          </p>
        )}
        <ul class="runs">
          {listed.map((name) => {
            const i = all.indexOf(name);
            const look = shown.find((one) => one.name === name);
            const toggled = look ? selected.filter((one) => one !== name) : [...selected, name];
            const item = { summary: runs[i]!.summary, short: short[i]!, look };
            return <RunItem key={name} {...item} onToggle={() => choose(toggled)} />;
          })}
        </ul>
      </details>
    </nav>
  );
}

interface ItemProps {
  summary: RunSummary;
  short: string;
  /** Undefined where it is not shown. */
  look: Shown | undefined;
  onToggle: () => void;
}

function RunItem({ summary, short, look, onToggle }: ItemProps) {
  const { name, state, step, totalSteps, tokens, loss, validationLoss, tokensPerSecond } = summary;
  const facts = [
    `${formatCount(tokens)} tokens`,
    loss !== undefined && `loss ${formatNumber(loss)}`,
    validationLoss !== undefined && `validation ${formatNumber(validationLoss)}`,
    state === 'training' && tokensPerSecond !== undefined && `${formatCount(tokensPerSecond)} tokens/s`,
  ].filter((fact) => fact !== false);
  return (
    <li>
      <label title={name}>
        <input type="checkbox" checked={look !== undefined} onChange={onToggle} />
        <Swatch run={look ?? { colour: 'transparent', dash: [] }} />
        <span class="name">{short}</span>
      </label>
      <div class="facts">
        <span class={`run-state ${state}`}>
          <span aria-hidden="true">{signs[state]}</span> {state}
        </span>{' '}
        step {step}
        {totalSteps !== undefined && ` of ${totalSteps}`}
      </div>
      {totalSteps !== undefined && state !== 'finished' && (
        <progress value={step} max={totalSteps} aria-label={`Progress of ${short}`} />
      )}
      <div class="facts">{facts.join(' · ')}</div>
    </li>
  );
}
