package temporal

import (
	"context"
	"maps"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
)

// needs has an attribute of each type that Heliotrope uses.
var needs = Needs{Retention: 48 * time.Hour, Attributes: Attributes{
	"HeliotropeTest": enumspb.INDEXED_VALUE_TYPE_KEYWORD, testAttribute.GetName(): testAttribute.GetValueType(),
}}

// TestSetup makes everything on a server that has nothing, and nothing the second time; it
// refuses what it must not change.
func TestSetup(t *testing.T) {
	cluster := sqliteCluster(t)
	s := settingsOf(t, cluster.Environment(cluster.Clients.Issue(t, "controller")))
	_, err := Dial(t.Context(), s, zerolog.Nop())
	wantBadInput(t, err, "heliotrope temporal setup", "namespace heliotrope")

	done, err := Setup(t.Context(), s, needs, zerolog.Nop())
	require.NoError(t, err)
	all := []string{"namespace heliotrope, which keeps closed workflows for 2 days", "search attribute HeliotropeTest (Keyword)", "search attribute HeliotropeTestMs (Double)"}
	assert.Equal(t, all, done.Made)
	assert.Empty(t, done.There)
	assert.Equal(t, OldestServer, done.Version)
	c := dial(t, s)
	require.NoError(t, Check(t.Context(), c, s, needs.Attributes))

	again, err := Setup(t.Context(), s, needs, zerolog.Nop())
	require.NoError(t, err)
	assert.Equal(t, all, again.There)
	assert.Empty(t, again.Made)
	assert.Empty(t, again.Changed)

	longer := needs
	longer.Retention = 72 * time.Hour
	_, err = Setup(t.Context(), s, longer, zerolog.Nop())
	wantBadInput(t, err, "2 days", "3 days", "--lengthen")
	kept, there, err := retention(t.Context(), c, s.Namespace)
	require.NoError(t, err)
	assert.True(t, there && kept == needs.Retention, "refused, and changed to %v", kept)
	longer.Lengthen = true
	done, err = Setup(t.Context(), s, longer, zerolog.Nop())
	require.NoError(t, err)
	assert.Equal(t, []string{"namespace heliotrope keeps closed workflows for 3 days, no longer for 2 days"}, done.Changed)
	assert.Equal(t, 72.0, done.RetentionHours)

	more := needs
	more.Attributes = Attributes{"HeliotropeTest": enumspb.INDEXED_VALUE_TYPE_DOUBLE, "HeliotropeOther": enumspb.INDEXED_VALUE_TYPE_KEYWORD}
	_, err = Setup(t.Context(), s, more, zerolog.Nop())
	wantBadInput(t, err, "HeliotropeTest is Keyword, and must be Double", "TEMPORAL_NAMESPACE")
	listed, err := c.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: s.Namespace})
	require.NoError(t, err)
	assert.NotContains(t, listed.GetCustomAttributes(), "HeliotropeOther", "refused, and one was added")
	more.Attributes = maps.Clone(needs.Attributes)
	more.Attributes["HeliotropeOther"] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	wantBadInput(t, Check(t.Context(), c, s, more.Attributes), "HeliotropeOther", "heliotrope temporal setup")
}

// registering is a server that answers each request to make its namespace as the test says, and
// has the namespace from the first answer on that makes it.
type registering struct {
	workflowservice.UnimplementedWorkflowServiceServer
	operatorservice.UnimplementedOperatorServiceServer
	answer func(try int32) (makes bool, err error)
	tries  atomic.Int32
	made   atomic.Bool
}

func (r *registering) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{ServerVersion: OldestServer}, nil
}

func (r *registering) RegisterNamespace(context.Context, *workflowservice.RegisterNamespaceRequest) (*workflowservice.RegisterNamespaceResponse, error) {
	makes, err := r.answer(r.tries.Add(1))
	r.made.Store(makes)
	return &workflowservice.RegisterNamespaceResponse{}, serviceerror.ToStatus(err).Err()
}

// there is an error while the namespace is not there.
func (r *registering) there() error {
	if r.made.Load() {
		return nil
	}
	return serviceerror.ToStatus(serviceerror.NewNamespaceNotFound("heliotrope")).Err()
}

func (r *registering) DescribeNamespace(context.Context, *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	return &workflowservice.DescribeNamespaceResponse{}, r.there()
}

func (r *registering) CountWorkflowExecutions(context.Context, *workflowservice.CountWorkflowExecutionsRequest) (*workflowservice.CountWorkflowExecutionsResponse, error) {
	return &workflowservice.CountWorkflowExecutionsResponse{}, r.there()
}

func (r *registering) ListSearchAttributes(context.Context, *operatorservice.ListSearchAttributesRequest) (*operatorservice.ListSearchAttributesResponse, error) {
	return &operatorservice.ListSearchAttributesResponse{}, r.there()
}

// TestNamespaceThatExistsAlready: only a namespace that is there exists. A server on SQLite whose
// database was busy says that it exists, too, and is asked again.
func TestNamespaceThatExistsAlready(t *testing.T) {
	exists := serviceerror.NewNamespaceAlreadyExists("Namespace already exists.")
	for name, test := range map[string]struct {
		answer func(try int32) (makes bool, err error)
		tries  int32
		says   string // "": it works
	}{
		"somebody else made it": {func(int32) (bool, error) { return true, exists }, 1, ""},
		"the database was busy": {func(try int32) (bool, error) {
			if try < 3 {
				return false, exists
			}
			return true, nil
		}, 3, ""},
		"not allowed": {func(int32) (bool, error) { return false, serviceerror.NewPermissionDenied("not yours", "") }, 1, "not yours"},
	} {
		t.Run(name, func(t *testing.T) {
			service, server := &registering{answer: test.answer}, grpc.NewServer()
			workflowservice.RegisterWorkflowServiceServer(server, service)
			operatorservice.RegisterOperatorServiceServer(server, service)
			listener, err := net.Listen("tcp", anyPort)
			require.NoError(t, err)
			served := make(chan error, 1)
			go func() { served <- server.Serve(listener) }()
			_, err = Setup(t.Context(), settingsOf(t, map[string]string{"TEMPORAL_ADDRESS": listener.Addr().String()}), Needs{Retention: 24 * time.Hour}, zerolog.Nop())
			server.Stop()
			require.NoError(t, <-served)
			assert.Equal(t, test.tries, service.tries.Load())
			if test.says != "" {
				require.ErrorContains(t, err, test.says)
				return
			}
			require.NoError(t, err)
		})
	}
}

// ancient is a server that reports its version and records all other requests.
type ancient struct {
	workflowservice.UnimplementedWorkflowServiceServer
	version string
}

func (a *ancient) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{ServerVersion: a.version}, nil
}

// TestOldServers: they are refused before anything else is asked of them.
func TestOldServers(t *testing.T) {
	for _, version := range []string{"1.31.9", "1.4.0", "0.0.1", "1.32.1-rc.1", "", "unknown"} {
		asked := make(chan string, 100)
		server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, request any, call *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			asked <- call.FullMethod
			return handler(ctx, request)
		}))
		workflowservice.RegisterWorkflowServiceServer(server, &ancient{version: version})
		listener, err := net.Listen("tcp", anyPort)
		require.NoError(t, err)
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		_, err = Setup(t.Context(), settingsOf(t, map[string]string{"TEMPORAL_ADDRESS": listener.Addr().String()}), needs, zerolog.Nop())
		wantBadInput(t, err, version, "upgrade that server", OldestServer)
		server.Stop()
		require.NoError(t, <-served)
		close(asked)
		for method := range asked {
			assert.Equal(t, workflowservice.WorkflowService_GetSystemInfo_FullMethodName, method)
		}
	}
}
