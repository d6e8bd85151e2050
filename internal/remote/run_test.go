package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

const grace = 300 * time.Millisecond

// eachRunner runs a test on this machine, over SSH, and over SSH as a user who becomes
// root by sudo, which is possible only when the test runs as root.
func eachRunner(t *testing.T, test func(t *testing.T, host remote.Host)) {
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		host := remote.Local("host-a")
		host.Grace = grace
		test(t, host)
	})
	for _, version := range []string{"SSH-2.0-OpenSSH_9.2", "SSH-2.0-dropbear_2022.83"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			server := remotetest.NewServer(t)
			server.RefuseSignals()
			server.SetVersion(version)
			config := server.Config("host-a")
			config.Grace = grace
			host, err := remote.SSH(config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = host.Close() })
			test(t, host)
		})
	}
	if !remotetest.CanPlayUser() {
		return
	}
	for name, way := range sudoWays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, way.connect(t))
		})
	}
}

func TestArgumentsArriveUnchanged(t *testing.T) {
	args := []string{
		"", " ", "plain", "two words", "it's", `'\''`, `"quoted"`, "line\nbreak", "tab\t", "$HOME", "`id`", "$(id)", `back\slash`,
		"größe 火 🜚", "\x01\xff\xfe", "*", "~", "-n", "--", "a=b", "!!", "#", ";", "&&", "", strings.Repeat("x'", 1000),
	}
	eachRunner(t, func(t *testing.T, host remote.Host) {
		result, err := host.Run(t.Context(), remote.Command{Args: append([]string{"printf", `%s\0`}, args...)})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Split(strings.TrimSuffix(string(result.Stdout), "\x00"), "\x00")
		if !slices.Equal(got, args) {
			t.Errorf("got %q", got)
		}
		if len(result.Stderr) > 0 {
			t.Errorf("unexpected standard error %q", result.Stderr)
		}
	})
}

func TestCommandLineTooLong(t *testing.T) {
	server := remotetest.NewServer(t)
	host := server.Connect(t, "host-a")
	_, err := host.Run(t.Context(), remote.Command{Args: []string{"echo", strings.Repeat("x", 128<<10)}})
	if err == nil || !strings.Contains(err.Error(), "the host takes only 131071") {
		t.Errorf("got %v", err)
	}
	result, err := host.Run(t.Context(), remote.Command{Args: []string{"echo", strings.Repeat("x", 128<<10-100)}})
	if err != nil || len(result.Stdout) != 128<<10-99 {
		t.Errorf("%d bytes, %v", len(result.Stdout), err)
	}
}

func TestHowCommandsEnd(t *testing.T) {
	eachRunner(t, func(t *testing.T, host remote.Host) {
		for name, test := range map[string]struct {
			args   []string
			code   int
			signal string
			text   string
		}{
			"success":   {[]string{"true"}, 0, "", ""},
			"exit code": {[]string{"sh", "-c", "echo oops >&2; exit 3"}, 3, "", "exit code 3: oops"},
			"signal":    {[]string{"sh", "-c", "kill -KILL $$"}, -1, "KILL", "killed by signal KILL"},
			"missing":   {[]string{"heliotrope-no-such-program"}, 127, "", "heliotrope-no-such-program"},
			"no name":   {[]string{""}, -1, "", "no program named"},
			"no args":   {nil, -1, "", "no program named"},
			"zero byte": {[]string{"echo", "a\x00b"}, -1, "", "zero byte"},
		} {
			t.Run(name, func(t *testing.T) {
				result, err := host.Run(t.Context(), remote.Command{Args: test.args})
				if result.ExitCode != test.code {
					t.Errorf("exit code %d, want %d", result.ExitCode, test.code)
				}
				if test.text == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				var failed *remote.Error
				if !errors.As(err, &failed) {
					t.Fatalf("got %v, want a *remote.Error", err)
				}
				if failed.ExitCode != test.code || failed.Signal != test.signal || failed.Host != "host-a" || !strings.Contains(err.Error(), test.text) {
					t.Errorf("got %+v: %v", failed, err)
				}
			})
		}
	})
}

func TestOutputBeyondTheCap(t *testing.T) {
	eachRunner(t, func(t *testing.T, host remote.Host) {
		var all bytes.Buffer
		result, err := host.Run(t.Context(), remote.Command{Args: []string{"seq", "1", "500000"}, Stdout: &all})
		if err != nil {
			t.Fatal(err)
		}
		if all.Len() <= remote.MaxCapture || !strings.HasPrefix(all.String(), "1\n2\n") {
			t.Errorf("only %d bytes passed on", all.Len())
		}
		if !bytes.Equal(result.Stdout, all.Bytes()[all.Len()-remote.MaxCapture:]) {
			t.Errorf("the result is not the end of the output")
		}
	})
}

func TestBothStreamsIntoOneWriter(t *testing.T) {
	eachRunner(t, func(t *testing.T, host remote.Host) {
		var both bytes.Buffer
		_, err := host.Run(t.Context(), remote.Command{
			Args: []string{"sh", "-c", "seq 1 2000; seq 1 2000 >&2"}, Stdout: &both, Stderr: &both,
		})
		if lines := strings.Count(both.String(), "\n"); err != nil || lines != 4000 {
			t.Errorf("%d lines, %v", lines, err)
		}
	})
}

func TestInput(t *testing.T) {
	input := strings.Repeat("0123456789abcdef\n\x00\xff", 100_000)
	eachRunner(t, func(t *testing.T, host remote.Host) {
		var output bytes.Buffer
		if _, err := host.Run(t.Context(), remote.Command{Args: []string{"cat"}, Stdin: strings.NewReader(input), Stdout: &output}); err != nil {
			t.Fatal(err)
		}
		if output.String() != input {
			t.Errorf("%d bytes came back changed as %d", len(input), output.Len())
		}
		if result, err := host.Run(t.Context(), remote.Command{Args: []string{"cat"}}); err != nil || len(result.Stdout) > 0 {
			t.Errorf("no input: got %q, %v", result.Stdout, err)
		}
		if _, err := host.Run(t.Context(), remote.Command{Args: []string{"true"}, Stdin: endless{}}); err != nil {
			t.Errorf("input that is not read: %v", err)
		}
		blocked, end := io.Pipe()
		defer end.Close()
		if _, err := host.Run(t.Context(), remote.Command{Args: []string{"true"}, Stdin: blocked}); err != nil {
			t.Errorf("input that does not come: %v", err)
		}
	})
}

func TestBrokenStreams(t *testing.T) {
	broken := errors.New("broken stream")
	eachRunner(t, func(t *testing.T, host remote.Host) {
		for name, command := range map[string]remote.Command{
			"input":  {Args: []string{"cat"}, Stdin: failing{broken}},
			"output": {Args: []string{"yes"}, Stdout: failing{broken}},
		} {
			if _, err := host.Run(t.Context(), command); !errors.Is(err, broken) || errors.Is(err, context.Canceled) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
}

func TestEnvironment(t *testing.T) {
	eachRunner(t, func(t *testing.T, host remote.Host) {
		value := "it's $HOME\n`x` \"y\""
		result, err := host.Run(t.Context(), remote.Command{
			Args: []string{"sh", "-c", `printf %s "$GREETING"; test -n "$PATH"`}, Env: []string{"GREETING=" + value},
		})
		if err != nil || string(result.Stdout) != value {
			t.Errorf("got %q, %v", result.Stdout, err)
		}
		for _, bad := range []string{"", "X", "=x", "1X=y", "A B=c", "A;B=c", "A=\x00"} {
			if _, err := host.Run(t.Context(), remote.Command{Args: []string{"true"}, Env: []string{bad}}); err == nil {
				t.Errorf("variable %q accepted", bad)
			}
		}
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }
