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
)

// RegisterSearchAttributes sees to it that the namespace has the attributes,
// and returns when workflows can be started with them. Those that are there
// already are left alone; one that is there with another type is an error, and
// nothing is changed. On a server with an SQL store a namespace has room for 10
// of type Keyword and 3 of every other type.
func RegisterSearchAttributes(ctx context.Context, c client.Client, namespace string, attributes map[string]enumspb.IndexedValueType) error {
	there, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("list the search attributes of namespace %s: %w", namespace, err)
	}
	missing := maps.Clone(attributes)
	for name, have := range there.GetCustomAttributes() {
		if want, ours := attributes[name]; ours && want != have {
			return fmt.Errorf("search attribute %s of namespace %s is %v, and must be %v: use another namespace", name, namespace, have, want)
		}
		delete(missing, name)
	}
	if len(missing) > 0 {
		_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
			Namespace: namespace, SearchAttributes: missing,
		})
		var exists *serviceerror.AlreadyExists // somebody else was as quick
		if err != nil && !errors.As(err, &exists) {
			return fmt.Errorf("add search attributes %s to namespace %s: %w",
				strings.Join(slices.Sorted(maps.Keys(missing)), ", "), namespace, err)
		}
	}
	return waitUsable(ctx, c, namespace, slices.Sorted(maps.Keys(attributes)))
}

// waitUsable asks for workflows by the attributes until the server knows them:
// it refreshes what it knows of a namespace every few seconds.
func waitUsable(ctx context.Context, c client.Client, namespace string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	query := strings.Join(names, " IS NOT NULL AND ") + " IS NOT NULL"
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		_, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: query})
		return struct{}{}, err
	}, backoff.WithBackOff(backoff.NewConstantBackOff(100*time.Millisecond)), backoff.WithMaxElapsedTime(30*time.Second))
	if err != nil {
		return fmt.Errorf("search attributes %s were added to namespace %s but cannot be used: %w", strings.Join(names, ", "), namespace, err)
	}
	return nil
}
