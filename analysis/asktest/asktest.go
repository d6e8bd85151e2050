// Package asktest has DuckDB or Polars answer the SQL of a document, for tests.
package asktest

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// Answer is what a program says to a statement.
type Answer struct {
	Statement string
	Rows      []map[string]any
}

// Ask has tools/PROGRAM/queries.mjs run a document's statements on a data folder. The test
// is of a package two folders below the repository's.
func Ask(t *testing.T, program, document, data string) []Answer {
	t.Helper()
	node, err := exec.LookPath("node")
	require.NoError(t, err, "node is not installed: run `make deps`")
	out, err := exec.Command(node, "../../tools/"+program+"/queries.mjs", document, data).CombinedOutput()
	require.NoError(t, err, "%s (run `make test`, which installs %s where it is missing)", out, program)
	var answers []Answer
	require.NoError(t, json.Unmarshal(out, &answers), "%s", out)
	return answers
}

// Number is a number of an answer: those that JSON has not room for, and infinity, are
// texts there.
func Number(t *testing.T, value any) float64 {
	t.Helper()
	if number, is := value.(float64); is {
		return number
	}
	number, err := strconv.ParseFloat(fmt.Sprint(value), 64)
	require.NoError(t, err)
	return number
}
