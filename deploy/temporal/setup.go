package temporal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"golang.org/x/mod/semver"
	"google.golang.org/protobuf/types/known/durationpb"

	"heliotrope/internal/fault"
	"heliotrope/internal/sdklog"
)

// OldestServer is the oldest supported version of Temporal's server: the oldest on which
// Heliotrope was run.
const OldestServer = "1.32.1"

// DefaultRetention is how long a namespace that Heliotrope makes keeps closed workflows.
const DefaultRetention = 90 * 24 * time.Hour

// Needs are what campaigns need of a server's namespace.
type Needs struct {
	Attributes Attributes
	// Retention is the shortest time for which closed workflows must be kept.
	Retention time.Duration
	// Lengthen allows Setup to lengthen a retention that is too short; otherwise Setup refuses
	// it.
	Lengthen bool
}

// Prepared is what Setup found and made.
type Prepared struct {
	Address   string `json:"address"` // host:port
	Version   string `json:"version"` // of the server
	Namespace string `json:"namespace"`
	// RetentionHours is how long closed workflows are kept now.
	RetentionHours float64 `json:"retention_hours"`
	// Made and Changed list what Setup made and changed; There lists what was already as it must
	// be.
	Made    []string `json:"made"`
	Changed []string `json:"changed"`
	There   []string `json:"there"`
}

// Setup makes a server's namespace, with its retention, and its search attributes, as far as they
// are missing, and returns when they can be used. It leaves alone what exists, so a second run
// changes nothing. It returns fault.BadInput, and has changed nothing, when the server is older
// than OldestServer, when the namespace keeps closed workflows for a shorter time, or when an
// attribute has another type.
func Setup(ctx context.Context, s Settings, needs Needs, logger zerolog.Logger) (Prepared, error) {
	done := Prepared{Address: s.Address, Namespace: s.Namespace, Made: []string{}, Changed: []string{}, There: []string{}}
	c, err := connect(ctx, s, logger)
	if err != nil {
		return done, err
	}
	defer c.Close()
	if done.Version, err = checkVersion(ctx, c, s); err != nil {
		return done, err
	}
	kept, there, err := retention(ctx, c, s.Namespace)
	if err != nil {
		return done, s.explain(err)
	}
	missing := needs.Attributes
	if there {
		if missing, err = missingAttributes(ctx, c, s.Namespace, needs.Attributes); err != nil {
			return done, s.explain(err)
		}
		if kept < needs.Retention && !needs.Lengthen {
			return done, fault.New(fault.BadInput, "namespace %s of Temporal at %s keeps closed workflows for %v, and %v are wanted: "+
				"lengthen it with `heliotrope temporal setup --lengthen`, or want less with --retention", s.Namespace, s.Address, days(kept), days(needs.Retention))
		}
	}
	if err := done.namespace(ctx, c, there, kept, needs.Retention); err != nil {
		return done, s.explain(err)
	}
	for _, name := range needs.Attributes.names() {
		text := fmt.Sprintf("search attribute %s (%v)", name, needs.Attributes[name])
		if _, added := missing[name]; added {
			done.Made = append(done.Made, text)
		} else {
			done.There = append(done.There, text)
		}
	}
	return done, s.explain(addAttributes(ctx, c, s.Namespace, missing, needs.Attributes))
}

// namespace makes the namespace, or lengthens its retention.
func (p *Prepared) namespace(ctx context.Context, c client.Client, there bool, kept, wanted time.Duration) error {
	text := "namespace " + p.Namespace
	p.RetentionHours = max(kept, wanted).Hours()
	switch {
	case !there:
		if err := p.register(ctx, c, wanted); err != nil {
			return fmt.Errorf("make namespace %s: %w", p.Namespace, err)
		}
		p.Made = append(p.Made, fmt.Sprintf("%s, which keeps closed workflows for %s", text, days(wanted)))
		return p.known(ctx, c)
	case kept < wanted:
		_, err := c.WorkflowService().UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
			Namespace: p.Namespace, Config: &namespace.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(wanted)}})
		if err != nil {
			return fmt.Errorf("lengthen the retention of namespace %s: %w", p.Namespace, err)
		}
		p.Changed = append(p.Changed, fmt.Sprintf("%s keeps closed workflows for %s, no longer for %s", text, days(wanted), days(kept)))
	default:
		p.There = append(p.There, fmt.Sprintf("%s, which keeps closed workflows for %s", text, days(kept)))
	}
	return nil
}

// register makes the namespace, unless somebody else has made it at the same time. "It exists
// already" is believed only if the namespace is then there: a server on SQLite also says so when
// its database was busy, and has made nothing. (IsDupEntryError in Temporal 1.32.1's
// common/persistence/sql/sqlplugin/sqlite/driver.go compares bits of SQLite's result codes, and
// SQLITE_BUSY shares one with SQLITE_CONSTRAINT.)
func (p *Prepared) register(ctx context.Context, c client.Client, wanted time.Duration) error {
	return patiently(ctx, func() error {
		_, err := c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
			Namespace: p.Namespace, Description: "Campaigns of Heliotrope", WorkflowExecutionRetentionPeriod: durationpb.New(wanted)})
		var exists *serviceerror.NamespaceAlreadyExists
		if err == nil || !errors.As(err, &exists) {
			return permanently(err)
		}
		_, there, askErr := retention(ctx, c, p.Namespace)
		if there || askErr != nil {
			return permanently(askErr)
		}
		return err
	})
}

// known waits until all the server's parts know the new namespace.
func (p *Prepared) known(ctx context.Context, c client.Client) error {
	err := patiently(ctx, func() error {
		if _, err := missingAttributes(ctx, c, p.Namespace, nil); err != nil {
			return err
		}
		_, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: p.Namespace})
		return err
	})
	if err != nil {
		return fmt.Errorf("namespace %s was made but cannot be used: %w", p.Namespace, err)
	}
	return nil
}

// days returns a retention as text: in days, or in hours when it is not a whole number of days.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == day:
		return "1 day"
	case d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	}
	return fmt.Sprintf("%g hours", d.Hours())
}

// Check returns why a server that the user named cannot run campaigns: its version is too old, or
// search attributes are missing. It changes nothing.
func Check(ctx context.Context, c client.Client, s Settings, attributes Attributes) error {
	if _, err := checkVersion(ctx, c, s); err != nil {
		return err
	}
	missing, err := missingAttributes(ctx, c, s.Namespace, attributes)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fault.New(fault.BadInput, "namespace %s of Temporal at %s has not the search attributes %v: run `heliotrope temporal setup` once, with the same settings",
			s.Namespace, s.Address, missing.names())
	}
	return nil
}

// checkVersion returns the server's version, and refuses an old one.
func checkVersion(ctx context.Context, c client.Client, s Settings) (string, error) {
	info, err := c.WorkflowService().GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	if err != nil {
		return "", s.explain(fmt.Errorf("ask Temporal at %s for its version: %w", s.Address, err))
	}
	have := info.GetServerVersion()
	if !semver.IsValid("v"+have) || semver.Compare("v"+have, "v"+OldestServer) < 0 {
		return have, fault.New(fault.BadInput, "Temporal at %s is of version %q, and %s is the oldest that is supported: upgrade that server", s.Address, have, OldestServer)
	}
	return have, nil
}

// retention returns how long the namespace keeps closed workflows; there is false when the
// namespace does not exist.
func retention(ctx context.Context, c client.Client, name string) (kept time.Duration, there bool, err error) {
	described, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: name})
	var missing *serviceerror.NamespaceNotFound
	if errors.As(err, &missing) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("look at namespace %s: %w", name, err)
	}
	return described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(), true, nil
}

// connect connects to a server, whatever namespaces it has. It tries for some seconds.
func connect(ctx context.Context, s Settings, logger zerolog.Logger) (client.Client, error) {
	options := s.ClientOptions()
	options.Logger = sdklog.Logger{To: logger}
	c, err := s.retried(ctx, func(ctx context.Context) (client.Client, error) { return client.DialContext(ctx, options) })
	if err != nil {
		return nil, s.explain(fmt.Errorf("connect to Temporal at %s: %w", s.Address, err))
	}
	return c, nil
}
