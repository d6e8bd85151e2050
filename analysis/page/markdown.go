package page

import (
	"fmt"
	"io"
	"strings"

	"heliotrope/analysis/summary"
)

// writeMarkdown writes report.md: the page without its figures.
func writeMarkdown(w io.Writer, v *view) error {
	var out strings.Builder
	fmt.Fprintf(&out, "**%s**\n\n# Campaign %s\n\n", summary.Markdown(v.KindSays), summary.Markdown(v.Campaign))
	for _, problem := range v.Problems {
		fmt.Fprintf(&out, "- **%s**\n", summary.Markdown(problem))
	}
	out.WriteString("\n## The answer\n\n")
	for i, sentence := range v.Answer {
		fmt.Fprintf(&out, "%d. %s\n", i+1, summary.Markdown(sentence))
	}
	writeTables(&out, "###", v.AnswerTables)
	for _, note := range v.AnswerNotes {
		fmt.Fprintf(&out, "\n%s\n", summary.Markdown(note))
	}
	out.WriteString("\n## The matrix at a glance\n")
	for _, g := range v.Grids {
		table := summary.Table{Title: g.Title, Header: append([]string{"cell"}, g.Columns...), Texts: -1}
		for _, row := range g.Rows {
			line := []string{row.Name}
			for _, value := range row.Values {
				line = append(line, value.Text)
			}
			table.Rows = append(table.Rows, line)
		}
		writeTables(&out, "###", []summary.Table{table})
	}
	out.WriteString("\n## Cells\n\n")
	for _, fact := range v.Facts {
		fmt.Fprintf(&out, "- %s\n", summary.Markdown(fact))
	}
	for _, part := range []struct {
		title  string
		tables []summary.Table
	}{
		{"", v.Outcomes}, {"", v.Load}, {"Stalls and the four witnesses", v.Stall}, {"Traffic", v.Wire},
		{"Recovery, resynchronisation and hand-over", v.Recovery}, {"Validity", v.Validity},
	} {
		if part.title != "" {
			fmt.Fprintf(&out, "\n## %s\n", part.title)
		}
		writeTables(&out, "###", part.tables)
	}
	out.WriteString("\n## Failures\n")
	if len(v.Failures) == 0 {
		out.WriteString("\nEvery attempt is valid.\n")
	} else {
		fmt.Fprintf(&out, "\n%s\n", summary.Markdown(v.FailuresSay))
		writeTables(&out, "###", []summary.Table{v.failureTable()})
	}
	out.WriteString("\n## How it was run, and how to run it again\n")
	writeTables(&out, "###", v.How)
	out.WriteString("\n```sh\n" + strings.Join(v.Commands, "\n") + "\n```\n")
	_, err := io.WriteString(w, out.String())
	return err
}

func writeTables(out *strings.Builder, heading string, tables []summary.Table) {
	for _, table := range tables {
		table.WriteMarkdown(out, heading)
	}
}
