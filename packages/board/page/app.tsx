import { useEffect } from 'preact/hooks';
import { Attention } from './attention.js';
import { Checkpoints } from './checkpoints.js';
import { Configuration } from './configuration.js';
import { Curves } from './curves.js';
import { Evaluations } from './evaluations.js';
import { lookOf, shortNames } from './look.js';
import { RunList } from './run_list.js';
import { Samples } from './samples.js';
import { type Change, type Settings, tabs, useSettings } from './settings.js';
import type { Shown } from './shown.js';
import { chosenOf, type Source, useSource } from './source.js';
import { useMedia, usePrinting } from './use_media.js';

const stateText: Record<Source['state'], string> = {
  file: '',
  live: 'live',
  connecting: 'connecting …',
  lost: 'sb-board does not answer; trying again',
};

export function App() {
  const [settings, change] = useSettings();
  const source = useSource(settings.selected);
  const isPrinted = usePrinting();
  const isDark = useMedia('(prefers-color-scheme: dark)') && !isPrinted;
  const names = source.runs.map(({ summary }) => summary.name);
  const selected = chosenOf(settings.selected, names);
  const chosen = source.runs.filter(({ summary }) => selected.includes(summary.name));
  const short = shortNames(chosen.map(({ summary }) => summary.name));
  const shown = chosen.map((run, i): Shown => {
    return { ...run, name: run.summary.name, short: short[i]!, ...lookOf(i, isDark) };
  });
  useEffect(() => {
    document.title = source.title;
  }, [source.title]);
  return (
    <>
      <header>
        <h1>{source.title}</h1>
        <span role="status" class={`state ${source.state}`}>
          {stateText[source.state]}
        </span>
        {source.state !== 'file' && (
          <a class="web" href="web" target="_blank" rel="noreferrer">
            run a checkpoint in this browser
          </a>
        )}
      </header>
      <div class="columns">
        <RunList runs={source.runs} shown={shown} settings={settings} change={change} />
        <main>
          <Tabs settings={settings} change={change} />
          <section id="panel" role="tabpanel" aria-label={settings.tab}>
            {shown.length === 0 ? (
              <p>{source.runs.length === 0 ? emptyText(source.state) : 'Choose runs in the list to see them here.'}</p>
            ) : (
              <Panel shown={shown} settings={settings} change={change} isDark={isDark} state={source.state} />
            )}
          </section>
        </main>
      </div>
    </>
  );
}

const emptyText = (state: Source['state']) =>
  state === 'live' ? 'There is no run here yet. One appears as soon as it begins to train.' : '';

interface PanelProps {
  shown: readonly Shown[];
  settings: Settings;
  change: Change;
  isDark: boolean;
  state: Source['state'];
}

function Panel(props: PanelProps) {
  switch (props.settings.tab) {
    case 'Curves':
      return <Curves {...props} />;
    case 'Configuration':
      return <Configuration shown={props.shown} />;
    case 'Samples':
      return <Samples shown={props.shown} />;
    case 'Evaluations':
      return <Evaluations {...props} />;
    case 'Checkpoints':
      return <Checkpoints shown={props.shown} />;
    case 'Attention':
      return <Attention shown={props.shown} state={props.state} />;
  }
}

/** As the ARIA practices have them: arrow keys go from one to the next. */
function Tabs({ settings, change }: { settings: Settings; change: Change }) {
  const go = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    const next = (tabs.indexOf(settings.tab) + by + tabs.length) % tabs.length;
    change({ tab: tabs[next]! });
    ((event.currentTarget as HTMLElement).children[next] as HTMLElement).focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label="What to show" onKeyDown={go}>
      {tabs.map((tab) => (
        <button
          key={tab}
          type="button"
          role="tab"
          aria-selected={tab === settings.tab}
          aria-controls="panel"
          tabIndex={tab === settings.tab ? 0 : -1}
          onClick={() => change({ tab })}
        >
          {tab}
        </button>
      ))}
    </div>
  );
}
