/** Where runs come from: the page itself, if it is a report, or the board, which says when there is more. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { MetricsTable, RunDetails, RunMetrics, RunSummary, WholeRun } from '../src/run_data.js';

/** A run as far as it has been fetched. */
export interface Run {
  summary: RunSummary;
  metrics: RunMetrics | undefined;
  details: RunDetails | undefined;
}

export interface Source {
  title: string;
  runs: readonly Run[];
  /** `file`: a report; the others: whether the board answers. */
  state: 'file' | 'live' | 'connecting' | 'lost';
}

interface Embedded {
  title: string;
  runs: WholeRun[];
}

const text = document.getElementById('runs')?.textContent ?? '';
const embedded = text === '' ? undefined : (JSON.parse(text) as Embedded);

/** @param selected the names of the runs whose metrics and files are wanted; undefined: of the first few */
export function useSource(selected: readonly string[] | undefined): Source {
  const [runs, setRuns] = useState<readonly Run[]>(embedded?.runs ?? []);
  const [state, setState] = useState<Source['state']>(embedded ? 'file' : 'connecting');
  const latest = useRef(runs);
  latest.current = runs;
  useEffect(() => {
    if (embedded) return;
    const events = new EventSource('api/events');
    events.addEventListener('runs', ({ data }: MessageEvent<string>) => {
      const known = new Map(latest.current.map((run) => [run.summary.name, run]));
      setState('live');
      setRuns(
        (JSON.parse(data) as RunSummary[]).map((summary) => {
          const { metrics, details } = known.get(summary.name) ?? {};
          return { summary, metrics, details };
        }),
      );
    });
    events.addEventListener('error', () => setState('lost'));
    return () => events.close();
  }, []);
  const wanted = chosenOf(
    selected,
    runs.map(({ summary }) => summary.name),
  );
  const fetching = useRef(false);
  useEffect(() => {
    if (embedded || fetching.current) return;
    const behind = runs.filter((run) => wanted.includes(run.summary.name) && isBehind(run));
    if (behind.length === 0) return;
    fetching.current = true;
    Promise.all(behind.map(fetchRun))
      .then((fetched) => {
        const byName = new Map(fetched.map((run) => [run.summary.name, run]));
        fetching.current = false;
        setRuns((now) =>
          now.map((run) => {
            const { metrics, details } = byName.get(run.summary.name) ?? run;
            return { ...run, metrics, details };
          }),
        );
      })
      .catch(() => {
        fetching.current = false;
        setState('lost'); // the stream of events connects again, and then what is missing is asked for
      });
  }, [runs, wanted.join('\n')]);
  return { title: embedded?.title ?? 'Runs', runs, state };
}

/**
 * The names of the runs that are shown: those that were selected, as far as they are there. Where none was, or none of them
 * is (an address of other runs), as many as can be told apart by colour.
 */
export function chosenOf(selected: readonly string[] | undefined, names: readonly string[]): string[] {
  const known = names.filter((name) => selected?.includes(name));
  return known.length > 0 || selected?.length === 0 ? known : names.slice(0, 8);
}

const isBehind = ({ summary, metrics, details }: Run) =>
  metrics?.generation !== summary.generation ||
  metrics.lines < summary.lines ||
  (details?.edition ?? -1) < summary.edition;

async function fetchRun({ summary, metrics, details }: Run): Promise<Run> {
  const name = encodeURIComponent(summary.name);
  const asked = `api/metrics?run=${name}&from=${metrics?.lines ?? 0}&generation=${metrics?.generation ?? 0}`;
  const isNew = (details?.edition ?? -1) < summary.edition;
  const [added, newDetails] = await Promise.all([
    json<RunMetrics>(asked),
    isNew ? json<RunDetails>(`api/details?run=${name}`) : details,
  ]);
  return { summary, metrics: joined(metrics, added), details: newDetails };
}

async function json<T>(path: string): Promise<T> {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return (await answer.json()) as T;
}

function joined(before: RunMetrics | undefined, added: RunMetrics): RunMetrics {
  if (!before || before.generation !== added.generation || added.from !== before.lines) return added;
  const tables: Record<string, MetricsTable> = { ...before.tables };
  for (const [kind, more] of Object.entries(added.tables)) {
    const table = tables[kind];
    if (!table) tables[kind] = more;
    else tables[kind] = joinTables(table, more);
  }
  return { ...added, from: 0, tables };
}

function joinTables(a: MetricsTable, b: MetricsTable): MetricsTable {
  const nulls = (length: number) => new Array<null>(length).fill(null);
  const names = new Set([...Object.keys(a.values), ...Object.keys(b.values)]);
  return {
    step: a.step.concat(b.step),
    tokens: a.tokens.concat(b.tokens),
    seconds: a.seconds.concat(b.seconds),
    values: Object.fromEntries(
      [...names].map((name) => [
        name,
        [...(a.values[name] ?? nulls(a.step.length)), ...(b.values[name] ?? nulls(b.step.length))],
      ]),
    ),
  };
}
