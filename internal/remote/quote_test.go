package remote

import (
	"os/exec"
	"strings"
	"testing"
)

func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"", "plain", "'", `'\''`, "a b\tc\nd", "$HOME `id` $(id) \\ \" ! # ~ * ? [x] {a,b} ; & | < >", "-n", "\xff\x01\x7f", "größe 火", "=", "a=b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if strings.ContainsRune(word, 0) {
			return // no argument can hold a zero byte
		}
		command := Command{Args: []string{"printf", `%s\0`, word}, Env: []string{"WORD=" + word}}
		output, err := exec.Command("sh", "-c", shellLine(command, false)).Output()
		if err != nil || string(output) != word+"\x00" {
			t.Fatalf("%q came back as %q, %v", word, output, err)
		}
	})
}

func TestShellLine(t *testing.T) {
	command := Command{Args: []string{"xl", "list", "it's"}, Env: []string{"A=b c"}}
	for ownGroup, want := range map[bool]string{
		false: `exec 'env' 'A=b c' 'xl' 'list' 'it'\''s'`,
		true:  `exec 'setsid' 'env' 'A=b c' 'xl' 'list' 'it'\''s'`,
	} {
		if got := shellLine(command, ownGroup); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestPidFilter(t *testing.T) {
	for name, test := range map[string]struct {
		chunks []string
		want   string
		pid    int
	}{
		"at once":          {[]string{"heliotrope-pid=42\nrest"}, "rest", 42},
		"in pieces":        {[]string{"helio", "trope-pid=4", "2", "\nre", "st"}, "rest", 42},
		"after a greeting": {[]string{"hello\nyou heliotrope-pid=42\n"}, "hello\nyou ", 42},
		"never":            {[]string{"something else\n"}, "something else\n", 0},
		"only the first":   {[]string{"heliotrope-pid=42\n", "heliotrope-pid=43\n"}, "heliotrope-pid=43\n", 42},
	} {
		t.Run(name, func(t *testing.T) {
			var passed strings.Builder
			filter := newPidFilter(&passed)
			for _, chunk := range test.chunks {
				if n, err := filter.Write([]byte(chunk)); n != len(chunk) || err != nil {
					t.Fatal(n, err)
				}
			}
			filter.flush()
			pid, known := filter.wait(t.Context())
			if passed.String() != test.want || pid != test.pid || known != (test.pid > 0) {
				t.Errorf("passed %q, pid %d %t", passed.String(), pid, known)
			}
		})
	}
}
