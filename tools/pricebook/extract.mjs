// Prints the price data of an unpacked @pydantic/genai-prices package as JSON.
// The package does not export its data: they are the first constant array of
// objects in dist/index.js. A copy of that module with one more export is
// written into the directory given and imported.
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const dir = process.argv[2];
const source = fs.readFileSync(path.join(dir, 'dist', 'index.js'), 'utf8');
const found = source.match(/const (\w+) = \[\s*\{\s*id: "/);
if (!found) throw new Error('no array of providers in dist/index.js: its form has changed');
const copy = path.resolve(dir, 'data.mjs');
fs.writeFileSync(copy, `${source}\nexport { ${found[1]} as pricebookData };\n`);
const { pricebookData } = await import(pathToFileURL(copy).href);
process.stdout.write(JSON.stringify(pricebookData));
