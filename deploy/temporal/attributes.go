package temporal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"heliotrope/internal/fault"
)

// Attributes are search attributes by name.
type Attributes map[string]enumspb.IndexedValueType

// names returns the names, sorted.
func (a Attributes) names() []string { return slices.Sorted(maps.Keys(a)) }

// RegisterSearchAttributes makes sure that the namespace has the attributes, and returns when
// workflows can be started with them. It leaves existing attributes alone. If one exists with
// another type, it returns fault.BadInput and changes nothing. On a server with an SQL store a
// namespace has room for 10 attributes of type Keyword and 3 of every other type.
func RegisterSearchAttributes(ctx context.Context, c client.Client, namespace string, attributes Attributes) error {
	missing, err := missingAttributes(ctx, c, namespace, attributes)
	if err != nil {
		return err
	}
	return addAttributes(ctx, c, namespace, missing, attributes)
}

// missingAttributes returns the attributes that the namespace does not have.
func missingAttributes(ctx context.Context, c client.Client, namespace string, attributes Attributes) (Attributes, error) {
	there, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return nil, fmt.Errorf("list the search attributes of namespace %s: %w", namespace, err)
	}
	missing := maps.Clone(attributes)
	var wrong []string
	for _, name := range attributes.names() {
		have, known := there.GetCustomAttributes()[name]
		if known && have != attributes[name] {
			wrong = append(wrong, fmt.Sprintf("%s is %v, and must be %v", name, have, attributes[name]))
		}
		if known {
			delete(missing, name)
		}
	}
	if len(wrong) > 0 {
		return nil, fault.New(fault.BadInput, "search attributes of namespace %s: %s; another program has them: set TEMPORAL_NAMESPACE to a namespace of Heliotrope's own",
			namespace, strings.Join(wrong, "; "))
	}
	return missing, nil
}

// addAttributes adds the missing attributes, and waits until all can be used.
func addAttributes(ctx context.Context, c client.Client, namespace string, missing, attributes Attributes) error {
	if len(missing) > 0 {
		_, err := c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
			Namespace: namespace, SearchAttributes: missing,
		})
		var exists *serviceerror.AlreadyExists // somebody else added them at the same time
		if err != nil && !errors.As(err, &exists) {
			return fmt.Errorf("add search attributes %s to namespace %s: %w", strings.Join(missing.names(), ", "), namespace, err)
		}
	}
	return waitUsable(ctx, c, namespace, attributes.names())
}

// waitUsable queries workflows by the attributes until the server knows them: it refreshes its
// knowledge of a namespace every few seconds.
func waitUsable(ctx context.Context, c client.Client, namespace string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	query := strings.Join(names, " IS NOT NULL AND ") + " IS NOT NULL"
	err := patiently(ctx, func() error {
		_, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: query})
		return err
	})
	if err != nil {
		return fmt.Errorf("search attributes %s were added to namespace %s but cannot be used: %w", strings.Join(names, ", "), namespace, err)
	}
	return nil
}

// knownWithin is how long a server may take until all its parts know of a change.
const knownWithin = 60 * time.Second

// permanently returns an error that patiently does not try again after; nil stays nil.
func permanently(err error) error {
	if err == nil {
		return nil
	}
	return backoff.Permanent(err)
}

// patiently repeats a request until all parts of a server know of a recent change.
func patiently(ctx context.Context, ask func() error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, ask() },
		backoff.WithBackOff(backoff.NewConstantBackOff(100*time.Millisecond)), backoff.WithMaxElapsedTime(knownWithin))
	return err
}
