package agent

import (
	"context"
	"testing"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestPatientHeartbeats(t *testing.T) {
	expired, cancel := context.WithCancel(t.Context())
	cancel() // as the SDK's own limit does
	for name, test := range map[string]struct {
		method  string
		answers []codes.Code
		calls   int
		want    codes.Code
		live    bool // the call is not limited by the caller's context
	}{
		"gets through in the end": {workflowservice.WorkflowService_RecordActivityTaskHeartbeat_FullMethodName,
			[]codes.Code{codes.Unavailable, codes.Unavailable, codes.OK}, 3, codes.OK, true},
		"the activity is lost": {workflowservice.WorkflowService_RecordActivityTaskHeartbeat_FullMethodName,
			[]codes.Code{codes.Unavailable, codes.NotFound}, 2, codes.NotFound, true},
		"any other call": {workflowservice.WorkflowService_PollActivityTaskQueue_FullMethodName,
			[]codes.Code{codes.Unavailable}, 1, codes.Unavailable, false},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			err := patient(expired, test.method, nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				if live := ctx.Err() == nil; live != test.live {
					t.Errorf("the call's context lives: %t", live)
				}
				calls++
				return status.Error(test.answers[calls-1], "")
			})
			if status.Code(err) != test.want || calls != test.calls {
				t.Errorf("%v after %d calls, want %v after %d", err, calls, test.want, test.calls)
			}
		})
	}
}
