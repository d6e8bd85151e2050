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
// (client.ConnectionOptions.DialOptions): an activity that a workflow cancels
// heartbeats at once, and so learns of it. Otherwise it would learn of it with its next
// heartbeat, minutes later, and a teardown ends several one after the other.
//
// The controller alone runs workflows, so each cancellation passes here: as a command
// in what a workflow answers. Activities on other machines are told by their links.
func PromptCancellations() grpc.DialOption { return grpc.WithChainUnaryInterceptor(promptly) }

// promptly is a grpc.UnaryClientInterceptor.
func promptly(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, connection, options...)
	// What failed may have arrived all the same.
	answer, is := request.(*workflowservice.RespondWorkflowTaskCompletedRequest)
	if is && slices.ContainsFunc(answer.GetCommands(), cancelsActivity) {
		pulse.Hurry(strings.TrimPrefix(answer.GetResourceId(), "workflow:"))
	}
	return err
}

func cancelsActivity(command *commandpb.Command) bool {
	return command.GetCommandType() == enumspb.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK
}
