// Package asktest lets DuckDB or Polars answer the SQL of a document, for tests.
package asktest

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// Answer is a program's answer to a statement.
type Answer struct {
	Statement string
	Rows      []map[string]any
}

// Ask lets tools/PROGRAM/queries.mjs run a document's statements on a data folder. The
// calling test's package must be two folders below the repository.
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

// Number is a number in an answer. There, infinity and numbers that do not fit into JSON
// are texts.
func Number(t *testing.T, value any) float64 {
	t.Helper()
	if number, is := value.(float64); is {
		return number
	}
	number, err := strconv.ParseFloat(fmt.Sprint(value), 64)
	require.NoError(t, err)
	return number
}
