package temporal

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"heliotrope/deploy/temporal/temporaltest"
	"heliotrope/internal/freeport"
)

// askingForTokens returns the replacements in temporal.yaml that add to it what deploy/production/README.md says of rights.
func askingForTokens(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../production/README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## Rights by namespace\n")
	require.True(t, found)
	_, rest, found := strings.Cut(section, "```yaml\nglobal:\n")
	require.True(t, found)
	lines, _, _ := strings.Cut(rest, "```")
	global, services, found := strings.Cut(lines, "services:\n")
	require.True(t, found)
	replace := []string{"\nglobal:\n", "\nglobal:\n" + global, "\nservices:\n", "\nservices:\n" + services}
	for _, port := range []string{": 7236", ": 6936"} {
		replace = append(replace, port, fmt.Sprintf(": %d", freeport.Loopback(t).Port()))
	}
	return replace
}

// TestRights: where the frontend asks for tokens, a client needs one besides its certificate, and may do what its token says.
func TestRights(t *testing.T) {
	dir := t.TempDir()
	tokens := temporaltest.NewTokens(t)
	tokens.Publish(t, dir)
	cluster := temporaltest.NewCluster(t, dir, append(temporaltest.OnSQLite(dir), askingForTokens(t)...)...)
	cluster.Start(t)
	certificate := cluster.Clients.Issue(t, "controller")
	with := func(t *testing.T, token string) Settings {
		t.Helper()
		variables := cluster.Environment(certificate)
		if token != "" {
			variables["TEMPORAL_API_KEY"] = token
		}
		return settingsOf(t, variables)
	}
	may := func(signer *temporaltest.Tokens, valid time.Duration, permission string) string {
		return signer.Sign(t, map[string]any{"sub": "ada", "exp": time.Now().Add(valid).Unix(), "permissions": []string{permission}})
	}
	start := func(c client.Client, id string) error {
		_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: "nobody"}, "nothing")
		return err
	}
	t.Run("admin", func(t *testing.T) { // prepares the namespace for the others
		_, err := Setup(t.Context(), with(t, may(tokens, time.Hour, "heliotrope:admin")), needs, zerolog.Nop())
		require.NoError(t, err)
	})
	t.Run("write", func(t *testing.T) {
		s := with(t, may(tokens, time.Hour, "heliotrope:write"))
		c := dial(t, s)
		require.NoError(t, Check(t.Context(), c, s, needs.Attributes))
		require.NoError(t, start(c, "written"))
		require.NoError(t, c.TerminateWorkflow(t.Context(), "written", "", "for a test"))
		longer := needs
		longer.Retention, longer.Lengthen = 2*needs.Retention, true
		_, err := Setup(t.Context(), s, longer, zerolog.Nop())
		wantBadInput(t, err, "check TEMPORAL_API_KEY")
	})
	t.Run("read", func(t *testing.T) {
		c := dial(t, with(t, may(tokens, time.Hour, "heliotrope:read")))
		require.ErrorContains(t, start(c, "read"), "unauthorized")
	})
	for name, token := range map[string]string{
		"none": "", "no token": "planted", "expired": may(tokens, -time.Hour, "heliotrope:admin"), "another signer": may(temporaltest.NewTokens(t), time.Hour, "heliotrope:admin"),
		"another namespace": may(tokens, time.Hour, "other:admin"),
	} {
		t.Run(name, func(t *testing.T) {
			s := with(t, token)
			_, err := Setup(t.Context(), s, needs, zerolog.Nop())
			wantBadInput(t, err, "check TEMPORAL_API_KEY")
			_, err = Dial(t.Context(), s, zerolog.Nop())
			wantBadInput(t, err, "check TEMPORAL_API_KEY")
		})
	}
}
