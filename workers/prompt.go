package workers

import (
	"context"
	"slices"
	"strings"

	commandpb "go.temporal.io/api/command/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"

	"heliotrope/activities/pulse"
)

// PromptCancellations is an option for the controller's connection
// (client.ConnectionOptions.DialOptions). It makes an activity heartbeat at once when a
// workflow cancels it, so that the activity learns of the cancellation. Otherwise it would
// learn of it with its next heartbeat, minutes later, and a teardown ends several
// activities one after the other.
//
// Only the controller runs workflows, so every cancellation passes through this connection,
// as a command in a workflow's answer. Activities on other machines are told by their
// links.
func PromptCancellations() grpc.DialOption { return grpc.WithChainUnaryInterceptor(promptly) }

// promptly is a grpc.UnaryClientInterceptor.
func promptly(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, connection, options...)
	// A request that failed may have arrived nevertheless.
	answer, is := request.(*workflowservice.RespondWorkflowTaskCompletedRequest)
	if is && slices.ContainsFunc(answer.GetCommands(), cancelsActivity) {
		pulse.Hurry(strings.TrimPrefix(answer.GetResourceId(), "workflow:"))
	}
	return err
}

func cancelsActivity(command *commandpb.Command) bool {
	return command.GetCommandType() == enumspb.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK
}
