// Runs every SQL statement of a Markdown file in DuckDB, in a data folder, and prints the
// rows as JSON: one array for each statement.
//
//   node queries.mjs FILE.md DATA_DIR
//
// Exit code 1 when a statement is refused; 2: usage.
import { readFileSync } from "node:fs";
import { DuckDBInstance } from "@duckdb/node-api";

const [file, data] = process.argv.slice(2);
if (!file || !data) {
  console.error("usage: node queries.mjs FILE.md DATA_DIR");
  process.exit(2);
}
const blocks = [...readFileSync(file, "utf8").matchAll(/^```sql\n(.*?)^```$/gms)].map((match) => match[1]);
process.chdir(data);
const connection = await (await DuckDBInstance.create(":memory:")).connect();
const results = [];
for (const statement of blocks.join("\n").split(/;\n/)) {
  if (statement.trim() === "") continue;
  const rows = (await connection.runAndReadAll(statement)).getRowObjectsJson();
  results.push({ statement, rows });
}
console.log(JSON.stringify(results));
