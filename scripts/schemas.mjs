// JSON Schemas of run and study files, so that an editor completes and checks them as they are typed. They are kept under
// configs/schemas/; `npm run schemas` writes them anew from the zod schemas, and a test says when that is due.
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { studies } from '@stickbreaking/study';
import { RunConfigSchema } from '@stickbreaking/train';
import { z } from 'zod';

const EXTENDS = {
  type: 'string',
  minLength: 1,
  description: 'A file that this one is laid over, relative to this file',
};

/** A file that extends another may leave anything out, at the top; what it says must be as in any file. */
function fileSchema(schema) {
  const { required = [], ...rest } = z.toJSONSchema(schema, { io: 'input' });
  return {
    ...rest,
    properties: { extends: EXTENDS, ...rest.properties },
    anyOf: [{ required: ['extends'] }, { required }],
  };
}

const { $schema, ...run } = fileSchema(RunConfigSchema);
const alternatives = studies.map(({ schema }) => {
  const { $schema: _, ...one } = fileSchema(schema);
  return one;
});
export const schemas = {
  'run.json': { $schema, title: 'A training run of stickbreaking', ...run },
  'study.json': { $schema, title: 'A study of stickbreaking', anyOf: alternatives },
};
export const text = (schema) => `${JSON.stringify(schema, null, 2)}\n`;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const directory = fileURLToPath(new URL('../configs/schemas/', import.meta.url));
  mkdirSync(directory, { recursive: true });
  for (const [name, schema] of Object.entries(schemas)) writeFileSync(`${directory}${name}`, text(schema));
}
