#!/usr/bin/env node
// save-history.mjs UI WORKFLOW_ID FILE: saves the history of a workflow's newest run, for
// workflows/testdata/histories, from the server whose web UI is at UI. It leaves out who
// worked on which machine.
//
//   tools/save-history.mjs http://127.0.0.1:8233 trial/kvm/00001 trial-emulated.json
import { writeFileSync } from "node:fs";

const [ui, id, file] = process.argv.slice(2);
if (!file) {
  console.error("usage: save-history.mjs UI WORKFLOW_ID FILE");
  process.exit(2);
}
// The UI's server passes on Temporal's own API. Payloads are not decoded, so that the SDK
// can read them.
const headers = { Accept: "application/json+no-payload-shorthand" };
const events = [];
let page = "";
do {
  const url = `${ui}/api/v1/namespaces/heliotrope/workflows/${encodeURIComponent(id)}/history?nextPageToken=${encodeURIComponent(page)}`;
  const answer = await fetch(url, { headers });
  if (!answer.ok) throw new Error(`history of ${id}: ${answer.status} ${await answer.text()}`);
  const { history, nextPageToken } = await answer.json();
  events.push(...history.events);
  page = nextPageToken ?? "";
} while (page);
const text = JSON.stringify({ events }, (key, value) => (key === "identity" ? "controller" : value), 1);
writeFileSync(file, text + "\n");
console.log(`${file}: ${events.length} events`);
