package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"heliotrope/internal/gather"
)

// The limits of telling hooks.
const (
	// Limit is how long one try may take.
	Limit = 30 * time.Second
	// Tries is how often a hook is tried.
	Tries = 3
	// pause is how long to wait before the second try; the next pause is twice as
	// long.
	pause = 2 * time.Second
	// closing is how long a killed command's pipes may stay open.
	closing = time.Second
	// keptBytes is how much of a command's output an error quotes.
	keptBytes = 500
)

// Hooks are the hooks to tell, and the limits for each.
type Hooks struct {
	All []Hook
	// Limit and Pause replace this package's values; zero keeps those.
	Limit, Pause time.Duration
}

// Tell tells every hook that wants to know of the event, all at the same time.
// The error joins the errors of the hooks that failed at every try.
func (h Hooks) Tell(ctx context.Context, event Event) error {
	text, err := json.Marshal(event)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	return gather.Each(h.All, func(hook Hook) error {
		if !slices.Contains(hook.On, event.Kind) {
			return nil
		}
		return h.try(ctx, hook, text)
	})
}

// Once tells one hook.
func (h Hooks) Once(ctx context.Context, hook Hook, event Event) error {
	return Hooks{All: []Hook{hook}, Limit: h.Limit, Pause: h.Pause}.Tell(ctx, event)
}

// try tells one hook, and tries again when that fails.
func (h Hooks) try(ctx context.Context, hook Hook, text []byte) error {
	between := &backoff.ExponentialBackOff{InitialInterval: orElse(h.Pause, pause), Multiplier: 2, MaxInterval: time.Minute}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		limit := orElse(h.Limit, Limit)
		limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it did not end within %s", limit))
		defer cancel()
		return struct{}{}, hook.tell(limited, text)
	}, backoff.WithBackOff(between), backoff.WithMaxTries(Tries), backoff.WithMaxElapsedTime(0))
	return err
}

func orElse(length, otherwise time.Duration) time.Duration {
	if length > 0 {
		return length
	}
	return otherwise
}

func (h Hook) tell(ctx context.Context, text []byte) error {
	if len(h.Command) > 0 {
		return h.run(ctx, text)
	}
	return h.post(ctx, text)
}

// run runs the command, and ends whatever it has left in its process group.
func (h Hook) run(ctx context.Context, text []byte) error {
	var output tail
	cmd := exec.CommandContext(ctx, h.Command[0], h.Command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	killGroup := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = killGroup, closing
	err := cmd.Start()
	if err == nil {
		err = cmd.Wait()
		_ = killGroup() // most often nobody is left
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, exec.ErrWaitDelay): // the command itself succeeded; a process that it left behind kept its output open
		err = nil
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("hook %s: %w%s", h.Command[0], err, output.after())
}

// post sends the event to the webhook.
func (h Hook) post(ctx context.Context, text []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.Webhook, bytes.NewReader(text))
	if err != nil {
		return errors.New("hook: its webhook is no URL")
	}
	request.Header.Set("Content-Type", "application/json")
	host := request.URL.Host
	// Keep no connection open: the next event is hours away.
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) { // the text of a *url.Error has the whole address
			err = of.Err
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("hook: POST to %s: %s", host, blank(err.Error(), request.URL))
	}
	_ = answer.Body.Close()
	if answer.StatusCode/100 == 2 {
		return nil
	}
	// Give the status alone: anything else in the answer may repeat the address.
	return fmt.Errorf("hook: POST to %s: %s", host, strings.TrimSpace(fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode))))
}

// blank replaces, in a text, every secret part of an address: all of it but the
// host.
func blank(text string, address *url.URL) string {
	for _, secret := range []string{address.RequestURI(), address.Path, address.EscapedPath(), address.RawQuery} {
		if secret = strings.Trim(secret, "/"); secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return text
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(text []byte) (int, error) {
	t.kept = append(t.kept, text...)
	if cut := len(t.kept) - keptBytes; cut > 0 {
		t.kept = append(t.kept[:0], t.kept[cut:]...)
	}
	return len(text), nil
}

// after is the kept output as one line to append to an error; "" when there was
// none.
func (t *tail) after() string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(t.kept), "")), " ")
	if text == "" {
		return ""
	}
	return ": " + text
}
