package agent

import (
	"context"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"heliotrope/internal/poll"
)

const (
	// heartbeatPatience is how long one heartbeat may take to get through. The server's
	// heartbeat time-out is shorter, and decides.
	heartbeatPatience = 5 * time.Minute
	heartbeatPause    = 200 * time.Millisecond
)

// PatientHeartbeats is an option for a client's connection
// (client.ConnectionOptions.DialOptions) when its worker has a short
// MaxHeartbeatThrottleInterval.
//
// The SDK (v1.50, internalHeartBeat in internal_task_handlers.go) limits each heartbeat's
// call to that interval, and cancels the activity when the call fails. With an interval of
// one second, every activity would end during a migration's blackout or while a forward is
// set up again, although the server would wait for the whole heartbeat time-out. With this
// option a heartbeat that does not get through is repeated until it does, or until the
// server says that the activity is lost.
func PatientHeartbeats() grpc.DialOption { return grpc.WithChainUnaryInterceptor(patient) }

// patient is a grpc.UnaryClientInterceptor.
func patient(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if method != workflowservice.WorkflowService_RecordActivityTaskHeartbeat_FullMethodName {
		return invoke(ctx, method, request, reply, connection, options...)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), heartbeatPatience)
	defer cancel()
	options = append(options[:len(options):len(options)], grpc.WaitForReady(true))
	var err error
	_ = poll.Until(ctx, heartbeatPause, func(ctx context.Context) (bool, error) { // at the limit, the last answer counts
		err = invoke(ctx, method, request, reply, connection, options...)
		return status.Code(err) != codes.Unavailable, nil
	})
	return err
}
