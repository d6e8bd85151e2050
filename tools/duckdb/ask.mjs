// Runs the SQL statement from standard input in DuckDB. It prints JSON: the columns, each
// with name and type, and the rows as arrays. Numbers that JSON cannot hold exactly, and
// infinite ones, are written as texts.
//
// Exit code 1 when the statement is refused.
import { readFileSync } from "node:fs";
import { DuckDBInstance } from "@duckdb/node-api";

try {
  const connection = await (await DuckDBInstance.create(":memory:")).connect();
  const reader = await connection.runAndReadAll(readFileSync(0, "utf8"));
  const columns = reader.columnNames().map((name, i) => ({ name, type: String(reader.columnType(i)) }));
  console.log(JSON.stringify({ columns, rows: reader.getRowsJson() }));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
