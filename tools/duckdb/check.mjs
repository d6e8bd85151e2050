// Opens every Parquet file of the campaigns in a data folder in DuckDB, compares it with
// the manifests, and runs a query across all trials.
//
//   node check.mjs DATA_DIR [--sound N [--proven]]
//
// With --sound, each campaign must also have N trials that are all valid and have I/Os, and
// must have left nothing on its hosts. With --proven, each trial must also prove itself:
// see checkProven.
//
// Exit code 0: all agree; 1: they do not, or a file cannot be read; 2: usage.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";

const quote = (text) => `'${text.replaceAll("'", "''")}'`;
// Escapes a path so that a DuckDB glob takes it literally.
const literal = (path) => path.replace(/[[\]*?]/g, (c) => `[${c}]`);

const problems = [];
const check = (path, what, got, want) => {
  if (String(got) !== String(want)) problems.push(`${path}: ${what} is ${got} in DuckDB, want ${want}`);
};

const connection = await (await DuckDBInstance.create(":memory:")).connect();
const query = async (sql) => (await connection.runAndReadAll(sql)).getRowObjects();

// checkFile reads all columns of a file and compares it with its entry in the manifest.
async function checkFile(folder, file, manifest) {
  const source = quote(literal(join(folder, file.path)));
  const parquet = `read_parquet(${source}, hive_partitioning = false)`;
  const columns = await query(`DESCRIBE SELECT * FROM ${parquet}`);
  const counts = columns.map((c, i) => `count("${c.column_name}") AS c${i}`);
  const [row] = await query(`SELECT count(*) AS rows, ${counts.join(", ")} FROM ${parquet}`);
  check(file.path, "number of rows", row.rows, file.rows);
  const [{ rows }] = await query(`SELECT sum(num_rows) AS rows FROM parquet_file_metadata(${source})`);
  check(file.path, "number of rows in the metadata", rows, file.rows);
  // Wrong statistics make a reader skip rows.
  for (const { path_in_schema, nulls } of await query(
    `SELECT path_in_schema, sum(stats_null_count) AS nulls FROM parquet_metadata(${source})
     WHERE stats_null_count IS NOT NULL GROUP BY ALL`)) {
    const i = columns.findIndex((c) => c.column_name === path_in_schema);
    check(file.path, `null count of ${path_in_schema}`, nulls, row.rows - row[`c${i}`]);
  }
  const metadata = await query(`SELECT decode(key) AS key, decode(value) AS value FROM parquet_kv_metadata(${source})`);
  const value = (key) => metadata.find((m) => m.key === key)?.value;
  check(file.path, "metadata table", value("table"), file.table);
  check(file.path, "metadata testbed_kind", value("testbed_kind"), manifest.testbed_kind);
  if (value("schema_version") === undefined) return;
  const wants = columns.map((c) => c.column_name).filter((name) => /(^|_)ts$/.test(name))
    .map((name) => [`number of rows in which ${name} is not ${name}_ns`, `epoch_us("${name}") IS DISTINCT FROM "${name}_ns" // 1000`]);
  wants.push(["number of rows that say otherwise whether they are simulated", `simulated IS DISTINCT FROM ${value("testbed_kind") === "simulated"}`]);
  for (const [what, where] of wants) {
    const [{ n }] = await query(`SELECT count(*) AS n FROM ${parquet} WHERE ${where}`);
    check(file.path, what, n, 0);
  }
}

// namesOf returns the names of the table of attempts and of its key column: before schema
// version 2 these were called trials.
const namesOf = (manifest) => (manifest.schema_version === undefined ? { table: "trials", key: "trial" } : { table: "attempts", key: "attempt" });

// acrossTrials counts the I/Os of each cell through the Hive partitions, and compares them
// with the counts in the table of attempts.
async function acrossTrials(folder, { table, key }) {
  const attempts = quote(literal(join(folder, `${table}.parquet`)));
  const types = `hive_types = {'rtt_ms': DOUBLE, '${key}': VARCHAR}`;
  const [{ n }] = await query(`SELECT count(*) AS n FROM ${attempts} WHERE folder <> '' AND io_rows IS NOT NULL`);
  if (n === 0n) return [];
  const io = `read_parquet(${quote(literal(folder) + "/*/*/*/io.parquet")}, hive_partitioning = true, ${types})`;
  return query(`
    WITH seen AS (SELECT storage, rtt_ms, ${key}, count(*) AS ios, max(latency_ns) / 1e6 AS max_ms FROM ${io} GROUP BY ALL),
    told AS (SELECT storage, rtt_ms, ${key}, io_rows FROM ${attempts} WHERE io_rows > 0)
    SELECT coalesce(seen.storage, told.storage) AS storage, coalesce(seen.rtt_ms, told.rtt_ms) AS rtt_ms,
           count(*)::INTEGER AS attempts, sum(coalesce(ios, 0))::BIGINT AS ios, sum(coalesce(io_rows, 0))::BIGINT AS io_rows,
           round(max(max_ms), 3) AS max_ms
    FROM seen FULL JOIN told USING (storage, rtt_ms, ${key}) GROUP BY ALL ORDER BY ALL`);
}

// checkSound checks the number of trials, that all of them are as they should be, and that
// each row names the kind of testbed on which it was measured.
async function checkSound(campaign, folder, wanted, kind, { key }) {
  const trials = quote(literal(join(folder, "trials.parquet")));
  const [{ others }] = await query(`SELECT count(*) AS others FROM ${trials} WHERE testbed_kind IS DISTINCT FROM ${quote(kind)}`);
  check(campaign, `number of trials that are not of kind ${kind}`, others, 0);
  const [{ n }] = await query(`SELECT count(*) AS n FROM ${trials} WHERE counted`);
  check(campaign, "number of trials", n, wanted);
  for (const t of await query(
    `SELECT ${key} AS attempt, cell_id, verdict, reason, leftovers, io_rows FROM ${trials}
     WHERE counted AND NOT coalesce(verdict = 'valid' AND leftovers = 0 AND io_rows > 0, false)`)) {
    problems.push(`${campaign}: attempt ${t.attempt} (${t.cell_id}) is ${t.verdict} (${t.reason}), has ${t.io_rows} I/Os ` +
      `and left ${t.leftovers ?? "unknown"} things on its hosts`);
  }
}

// checkProven checks that every trial that counts proves itself: four witnesses saw its stall, if it has one, except
// those that its testbed does not have; its certificates are within their tolerance; its ledger lost nothing; and its
// traffic by class sums to the interface's own count within 1 %. `heliotrope judge` says what controls must show.
async function checkProven(campaign, folder, { key }) {
  const table = (name) => quote(literal(join(folder, `${name}.parquet`)));
  const wants = [
    ["a trial has not four witnesses of its stall, or all but those that are absent", `
      SELECT t.${key}, t.cell_id, t.absent_witnesses, count(w.stall_ms) AS stalls
      FROM ${table("trials")} t LEFT JOIN ${table("witnesses")} w USING (${key})
      WHERE t.counted AND t.control <> 'none' GROUP BY ALL
      HAVING count(w.stall_ms) <> 4 - len(list_filter(string_split(t.absent_witnesses, ' '), lambda name: name <> ''))`],
    ["a certificate is missing or outside of its tolerance", `
      SELECT t.${key}, t.cell_id, count(c.${key}) AS rows, string_agg(c.problem, '; ') FILTER (c.problem <> '') AS problem
      FROM ${table("trials")} t LEFT JOIN ${table("certificates")} c USING (${key})
      WHERE t.counted GROUP BY ALL HAVING count(c.${key}) <> 4 OR count(*) FILTER (c.problem <> '') > 0`],
    ["the ledger of a trial is missing or lost a write", `
      SELECT t.${key}, t.cell_id, count(l.${key}) AS copies, sum(l.lost_count) AS lost, min(l.acked) AS acked
      FROM ${table("trials")} t LEFT JOIN ${table("ledger")} l USING (${key}) WHERE t.counted GROUP BY ALL
      HAVING count(l.${key}) < CASE WHEN t.storage = 'drbd' THEN 2 ELSE 1 END OR sum(l.lost_count) > 0 OR min(l.acked) < 10`],
    ["the traffic's classes do not sum to the interface's count", `
      SELECT ${key}, direction, sum(bytes) FILTER (class <> 'interface') AS classes, sum(bytes) FILTER (class = 'interface') AS interface
      FROM ${table("traffic")} SEMI JOIN (SELECT ${key} FROM ${table("trials")} WHERE counted) USING (${key}) GROUP BY ALL
      HAVING NOT coalesce(abs(classes - interface) <= greatest(0.01 * interface, 100000), false)`],
  ];
  for (const [what, sql] of wants) {
    for (const row of await query(sql)) {
      problems.push(`${campaign}: ${what}: ${JSON.stringify(row, (_, v) => (typeof v === "bigint" ? Number(v) : v))}`);
    }
  }
  console.table(await query(`
    SELECT t.${key}, t.cell_id, t.direction, w.witness, round(w.stall_ms, 1) AS stall_ms, round(w.uncertainty_ms, 1) AS uncertainty_ms
    FROM ${table("trials")} t JOIN ${table("witnesses")} w USING (${key}) WHERE t.counted ORDER BY ALL`));
}

const [data, option, sound, proven] = process.argv.slice(2);
if (data === undefined || (option !== undefined && (option !== "--sound" || !(Number(sound) > 0)))
  || (proven !== undefined && proven !== "--proven")) {
  console.error("usage: node check.mjs DATA_DIR [--sound N [--proven]]");
  process.exit(2);
}
const campaigns = existsSync(data) ? readdirSync(data).filter((name) => name.startsWith("campaign=")) : [];
if (campaigns.length === 0) problems.push(`${data}: has no folder campaign=NAME`);

let files = 0;
for (const campaign of campaigns) {
  const folder = join(data, campaign);
  try {
    const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
    console.log(`${campaign} (${manifest.testbed_kind})`);
    for (const file of manifest.files) {
      files++;
      try {
        await checkFile(folder, file, manifest);
      } catch (error) {
        problems.push(`${file.path}: ${error.message}`);
      }
    }
    const cells = await acrossTrials(folder, namesOf(manifest));
    console.table(cells);
    if (sound !== undefined) await checkSound(campaign, folder, Number(sound), manifest.testbed_kind, namesOf(manifest));
    if (proven !== undefined) await checkProven(campaign, folder, namesOf(manifest));
    for (const cell of cells) check(`${campaign} ${cell.storage} ${cell.rtt_ms} ms`, "number of I/Os across trials", cell.ios, cell.io_rows);
  } catch (error) {
    problems.push(`${campaign}: ${error.message}`);
  }
}

for (const problem of problems) console.error(problem);
console.log(`${files} Parquet files of ${campaigns.length} campaigns read by DuckDB, ${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);
