// Runs a bundled command: node load.cjs PROGRAM.cjs [arguments], with the code that V8 compiled before where there is any.
const { existsSync, readFileSync, writeFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const { dirname } = require('node:path');
const { Script } = require('node:vm');

const [program] = process.argv.splice(2, 1);
process.argv[1] = program;
const kept = `${program}.code`;
const source = `(function (exports, require, module, __filename, __dirname) {${readFileSync(program, 'utf8')}\n})`;
const cachedData = existsSync(kept) ? readFileSync(kept) : undefined;
const importModuleDynamically = (name) => import(name);
const script = new Script(source, { filename: program, cachedData, importModuleDynamically });
const module_ = { exports: {} };
script.runInThisContext()(module_.exports, createRequire(program), module_, program, dirname(program));
if (process.env.STICKBREAKING_KEEP_CODE) process.on('exit', () => writeFileSync(kept, script.createCachedData()));
