// Runs the SQL in the Python blocks of a Markdown file in Polars, in a data folder, and
// prints the rows as JSON: one array for each block. A block names its tables by `NAME =
// pl.scan_parquet("PATH")`, and has its SQL between triple quotes. The Python code around
// the SQL is not run, because this is the Node build of Polars.
//
//   node queries.mjs FILE.md DATA_DIR
//
// Exit code 1 when a statement is refused; 2: usage.
import { readFileSync } from "node:fs";
import pl from "nodejs-polars";

const [file, data] = process.argv.slice(2);
if (!file || !data) {
  console.error("usage: node queries.mjs FILE.md DATA_DIR");
  process.exit(2);
}
const blocks = [...readFileSync(file, "utf8").matchAll(/^```python\n(.*?)^```$/gms)].map((match) => match[1]);
process.chdir(data);
const results = [];
for (const block of blocks) {
  const scans = [...block.matchAll(/^(\w+) = pl\.scan_parquet\("(.*?)"\)$/gm)];
  const [, statement] = block.match(/"""\n(.*?)"""/s);
  const tables = pl.SQLContext(Object.fromEntries(scans.map(([, name, path]) => [name, pl.scanParquet(path)])));
  let rows;
  try {
    rows = tables.execute(statement, { eager: true }).toRecords();
  } catch (error) { // this build hands the reason over as a value, and stumbles over it
    console.error(`Polars refuses this statement: ${error.message}\n${statement}`);
    process.exit(1);
  }
  results.push({ statement, rows });
}
// As in DuckDB's answers, infinity is a text: JSON has no number for it.
console.log(JSON.stringify(results, (_, value) => typeof value === "number" && !Number.isFinite(value) ? String(value) : value));
