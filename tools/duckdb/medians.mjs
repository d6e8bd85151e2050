// Prints what a trial takes and how certain its measurements are: median and range over the
// valid trials of each cell and direction of a campaign.
//
//   node medians.mjs CAMPAIGN_FOLDER
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";

const measures = {
  overhead_s: "outside of the measuring phases, s",
  total_migration_ms: "migration in total, ms",
  downtime_ms: "downtime as the hypervisor tells it, ms",
  blackout_ms: "blackout by the hypervisor's witness, ms",
  blackout_uncertainty_ms: "± of the hypervisor's witness, ms",
  longest_gap_ms: "longest time without an I/O, ms",
  clock_uncertainty_ms: "clocks' uncertainty, worst, ms",
};

const folder = process.argv[2];
if (!folder) {
  console.error("usage: node medians.mjs CAMPAIGN_FOLDER");
  process.exit(2);
}
const connection = await (await DuckDBInstance.create(":memory:")).connect();
const query = async (sql) => (await connection.runAndReadAll(sql)).getRowObjects();
const trials = `read_parquet('${join(folder, "trials.parquet").replaceAll("'", "''")}', hive_partitioning = false)`;
const number = (x) => (x === null ? "–" : Number(x).toPrecision(4));
for (const [column, text] of Object.entries(measures)) {
  const rows = await query(`SELECT cell_id, direction, median(${column}) AS m, min(${column}) AS least, max(${column}) AS most, count(${column}) AS n
    FROM ${trials} WHERE counted AND NOT sentinel AND verdict = 'valid' GROUP BY ALL ORDER BY ALL`);
  console.log(`${text}:`);
  for (const row of rows) {
    console.log(`  ${row.cell_id} ${row.direction}: median ${number(row.m)}, ${number(row.least)} to ${number(row.most)} of ${row.n} trials`);
  }
}
const [{ valid, all }] = await query(`SELECT count(*) FILTER (verdict = 'valid') AS valid, count(*) AS all FROM ${trials} WHERE counted`);
console.log(`valid: ${valid} of ${all} trials`);
