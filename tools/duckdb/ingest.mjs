// Reads a fio log with six fields into a Parquet file with zstd, as a user of DuckDB would.
// tools/bench-ingest compares `heliotrope ingest` with it.
//
//   node ingest.mjs LOG PARQUET
import { DuckDBInstance } from "@duckdb/node-api";

const [log, parquet] = process.argv.slice(2);
const quote = (text) => `'${text.replaceAll("'", "''")}'`;
const instance = await DuckDBInstance.create(":memory:");
const connection = await instance.connect();
await connection.run(`COPY (SELECT * FROM read_csv(${quote(log)}, header = false, delim = ', ', columns = {
	'ms': 'BIGINT', 'latency_ns': 'BIGINT', 'direction': 'TINYINT', 'size_bytes': 'INTEGER', 'offset_bytes': 'BIGINT', 'priority': 'INTEGER'
})) TO ${quote(parquet)} (FORMAT parquet, COMPRESSION zstd)`);
