"""Stands in for Python's duckdb where that cannot be had: where the tests run.

It knows what the notebooks use, connect().sql(statement).df(), and has DuckDB's build
for Node do it (tools/duckdb). Nobody else needs it: `pip install duckdb`.
"""

import json
import pathlib
import subprocess

import pandas

_ASK = pathlib.Path(__file__).resolve().parents[3] / "tools" / "duckdb" / "ask.mjs"
_TYPES = {"BOOLEAN": bool, "INTEGER": "int64", "BIGINT": "int64", "HUGEINT": "int64", "DOUBLE": float, "FLOAT": float}


class _Relation:
    def __init__(self, statement):
        self._statement = statement

    def df(self):
        """The rows as a DataFrame; an error has what DuckDB said."""
        done = subprocess.run(["node", str(_ASK)], input=self._statement, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        answer = json.loads(done.stdout)
        frame = pandas.DataFrame(answer["rows"], columns=[column["name"] for column in answer["columns"]])
        for column in answer["columns"]:
            values, wanted = frame[column["name"]], _TYPES.get(column["type"])
            if wanted is None:
                continue
            if values.isna().any():
                wanted = float
            frame[column["name"]] = values.astype(wanted)
        return frame


class _Connection:
    def sql(self, statement):
        return _Relation(statement)


def connect():
    return _Connection()
