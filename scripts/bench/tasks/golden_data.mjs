// Data sets as sb-eval finds them, of the documents in golden files: whole for likelihoods, repeated for timings. A repeated
// document has its number in front, so that no answer serves two.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const published = {
  arc_easy: 'allenai/ai2_arc/ARC-Easy/test.jsonl',
  arc_challenge: 'allenai/ai2_arc/ARC-Challenge/test.jsonl',
  hellaswag: 'Rowan/hellaswag/validation.jsonl',
  openbookqa: 'allenai/openbookqa/main/test.jsonl',
  piqa: 'baber/piqa/validation.jsonl',
  race: 'EleutherAI/race/high/test.jsonl',
  sciq: 'allenai/sciq/test.jsonl',
  winogrande: 'allenai/winogrande/winogrande_xl/validation.jsonl',
};

/** Each document of a golden file once. */
export function documentsOf(goldens, task) {
  const lines = readFileSync(join(goldens, `${task}.jsonl`), 'utf8').split('\n');
  const all = lines.filter((line) => line !== '').map((line) => JSON.parse(line));
  // Some lines hold the requests of another release alone.
  const documents = all.flatMap(({ doc }) => (doc ? [doc] : []));
  return [...new Map(documents.map((doc) => [JSON.stringify(doc), doc])).values()];
}

function write(path, rows) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
}

/** The multiple-choice tasks as far as the golden files have them. */
export function writeGoldenData(goldens, folder) {
  for (const [task, path] of Object.entries(published)) write(join(folder, path), documentsOf(goldens, task));
  writeSubjects(
    folder,
    documentsOf(goldens, 'mmlu'),
    (rows) => rows,
    ({ subject }) => subject,
  );
}

/** So many documents of each multiple-choice task. */
export function writeRepeated(goldens, folder, count) {
  for (const [task, path] of Object.entries(published)) {
    const own = documentsOf(goldens, task);
    write(
      join(folder, path),
      Array.from({ length: count }, (_, i) => numbered(task, own[i % own.length], i)),
    );
  }
}

function numbered(task, row, i) {
  switch (task) {
    case 'hellaswag':
      return { ...row, activity_label: `${i} ${row.activity_label}` };
    case 'openbookqa':
      return { ...row, question_stem: `${i} ${row.question_stem}` };
    case 'piqa':
      return { ...row, goal: `${i} ${row.goal}` };
    case 'race':
      return { ...row, article: `${i} ${row.article}` };
    case 'sciq':
      return { ...row, support: `${i} ${row.support}` };
    case 'winogrande':
      return { ...row, sentence: `${i} ${row.sentence}` };
    default:
      return { ...row, question: `${i} ${row.question}` };
  }
}

/** HellaSwag with so many documents. */
export function writeHellaSwag(goldens, folder, count) {
  const own = [...documentsOf(goldens, 'hellaswag'), ...documentsOf(goldens, 'hellaswag_cleaned')];
  const rows = Array.from({ length: count }, (_, i) => numbered('hellaswag', own[i % own.length], i));
  write(join(folder, published.hellaswag), rows);
}

/** So many subjects of MMLU with so many documents each, and five examples. */
export function writeMmlu(goldens, folder, subjects, count) {
  const all = documentsOf(goldens, 'mmlu');
  const names = [...new Set(all.map(({ subject }) => subject))].slice(0, subjects);
  const rows = names.flatMap((subject) =>
    Array.from({ length: count }, (_, i) => ({ ...numbered('mmlu', all[(i * 7) % all.length], i), subject })),
  );
  writeSubjects(
    folder,
    rows,
    (_, n) => all.slice(n * 3, n * 3 + 5),
    ({ subject }) => subject,
  );
  return names.map((name) => `mmlu_${name}`);
}

function writeSubjects(folder, rows, devOf, subjectOf) {
  for (const [n, subject] of [...new Set(rows.map(subjectOf))].entries()) {
    const own = rows.filter((row) => subjectOf(row) === subject);
    write(join(folder, 'cais/mmlu', subject, 'test.jsonl'), own);
    write(join(folder, 'cais/mmlu', subject, 'dev.jsonl'), devOf(own, n));
  }
}

/** What RULER's texts are made of. */
export function writeRulerMaterials(goldens, folder) {
  const from = join(goldens, 'ruler_inputs');
  mkdirSync(join(folder, 'ruler'), { recursive: true });
  for (const name of ['nounlist', 'adjectivelist', 'verblist']) {
    cpSync(join(from, `wonderwords_${name}.txt`), join(folder, `ruler/${name}.txt`));
  }
  const punkt = JSON.parse(readFileSync(join(from, 'punkt_english.json'), 'utf8'));
  const lines = (name, rows) =>
    writeFileSync(join(folder, 'ruler', name), rows.map((row) => `${[row].flat().join('\t')}\n`).join(''));
  lines('abbrev_types.txt', punkt.abbrev_types);
  lines('collocations.tab', punkt.collocations);
  lines('sent_starters.txt', punkt.sent_starters);
  lines('ortho_context.tab', Object.entries(punkt.ortho_context));
  cpSync(join(from, 'essays.jsonl'), join(folder, 'ruler/essays.jsonl'));
  cpSync(join(from, 'squad_small.json'), join(folder, 'ruler/squad.json'));
  cpSync(join(from, 'hotpot_small.json'), join(folder, 'ruler/hotpotqa.json'));
}
