// Prints the median and the range, over the valid trials of a campaign, of what
// a trial costs and of how sure it is.
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
  const where = `FROM ${trials} WHERE counted AND verdict = 'valid'`;
  const of = `median(${column}) AS m, min(${column}) AS least, max(${column}) AS most, count(${column}) AS n`;
  const [all] = await query(`SELECT ${of} ${where}`);
  const each = await query(`SELECT storage, ${of} ${where} GROUP BY storage ORDER BY storage`);
  console.log(`${text}: median ${number(all.m)}, ${number(all.least)} to ${number(all.most)} of ${all.n} trials;`,
    each.map((s) => `${s.storage} ${number(s.m)} (${s.n})`).join(", "));
}
const [{ valid, all }] = await query(`SELECT count(*) FILTER (verdict = 'valid') AS valid, count(*) AS all FROM ${trials} WHERE counted`);
console.log(`valid: ${valid} of ${all} trials`);
