package gate

import (
	"context"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// allowed selects the methods of Temporal's WorkflowService that a worker of activities calls
// (go.temporal.io/sdk v1.50: internal_worker.go, internal_task_pollers.go,
// internal_task_handlers.go). Methods that name an activity by its workflow's ID are not among
// them: a worker does not need them, and the gate could not tell whether the activity is the
// worker's own.
func allowed(methods []grpc.MethodDesc) []grpc.MethodDesc {
	var some []grpc.MethodDesc
	for _, method := range methods {
		switch method.MethodName {
		case "GetSystemInfo", "DescribeNamespace", "PollActivityTaskQueue", "RecordActivityTaskHeartbeat",
			"RespondActivityTaskCompleted", "RespondActivityTaskFailed", "RespondActivityTaskCanceled", "ShutdownWorker":
			some = append(some, method)
		}
	}
	return slices.Clip(some)
}

// desk serves the worker. Each of its methods makes the same call to Temporal and copies only
// the fields that it knows: an unknown field is not passed on.
type desk struct {
	workflowservice.UnimplementedWorkflowServiceServer
	*Gate
}

// told converts an error of Temporal's client to gRPC's form. An error of the controller's own
// connection is told without its text, which can name Temporal's address or the file with the
// codec's keys; the text is logged here.
func (d *desk) told(err error) error {
	told := serviceerror.ToStatus(err)
	if code := told.Code(); code == codes.Unavailable || code == codes.FailedPrecondition {
		d.logOnce("the gate of a worker cannot ask Temporal: " + told.Message())
		return status.Error(code, "the controller cannot ask Temporal now: its log says why")
	}
	return told.Err()
}

func (d *desk) GetSystemInfo(ctx context.Context, _ *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	reply, err := d.options.To.GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	return reply, d.told(err)
}

// DescribeNamespace tells the SDK what it must know of its own namespace, but neither the
// namespace's owner nor what others have written into it.
func (d *desk) DescribeNamespace(ctx context.Context, r *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	if err := d.ours(ctx, r.GetNamespace()); err != nil {
		return nil, err
	}
	is, err := d.options.To.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: d.options.Namespace})
	info := is.GetNamespaceInfo()
	return &workflowservice.DescribeNamespaceResponse{
		NamespaceInfo: &namespacepb.NamespaceInfo{Name: info.GetName(), State: info.GetState(),
			Capabilities: info.GetCapabilities(), Limits: info.GetLimits()},
		PollerGroupsInfo: is.GetPollerGroupsInfo(),
	}, d.told(err)
}

func (d *desk) PollActivityTaskQueue(ctx context.Context, r *workflowservice.PollActivityTaskQueueRequest) (*workflowservice.PollActivityTaskQueueResponse, error) {
	if err := d.ownQueue(ctx, r.GetNamespace(), r.GetTaskQueue().GetName()); err != nil {
		return nil, err
	}
	task, err := d.options.To.PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{
		Namespace: d.options.Namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: d.options.Queue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		PollerGroupId: r.GetPollerGroupId(), Identity: r.GetIdentity(), WorkerInstanceKey: r.GetWorkerInstanceKey(),
	})
	if len(task.GetTaskToken()) > 0 {
		task.TaskToken = d.seal(task.GetTaskToken())
	}
	return task, d.told(err)
}

// ownQueue refuses every queue but the worker's own.
func (d *desk) ownQueue(ctx context.Context, namespace, queue string) error {
	if err := d.ours(ctx, namespace); err != nil {
		return err
	}
	if queue != d.options.Queue {
		method, _ := grpc.Method(ctx)
		return d.refused(method, "another queue")
	}
	return nil
}

func (d *desk) RecordActivityTaskHeartbeat(ctx context.Context, r *workflowservice.RecordActivityTaskHeartbeatRequest) (*workflowservice.RecordActivityTaskHeartbeatResponse, error) {
	token, err := d.task(ctx, r.GetNamespace(), r.GetTaskToken())
	if err != nil {
		return nil, err
	}
	reply, err := d.options.To.RecordActivityTaskHeartbeat(ctx, &workflowservice.RecordActivityTaskHeartbeatRequest{
		TaskToken: token, Namespace: d.options.Namespace, Details: r.GetDetails(), Identity: r.GetIdentity(), ResourceId: r.GetResourceId()})
	return reply, d.told(err)
}

func (d *desk) RespondActivityTaskCompleted(ctx context.Context, r *workflowservice.RespondActivityTaskCompletedRequest) (*workflowservice.RespondActivityTaskCompletedResponse, error) {
	token, err := d.task(ctx, r.GetNamespace(), r.GetTaskToken())
	if err != nil {
		return nil, err
	}
	reply, err := d.options.To.RespondActivityTaskCompleted(ctx, &workflowservice.RespondActivityTaskCompletedRequest{
		TaskToken: token, Namespace: d.options.Namespace, Result: r.GetResult(), Identity: r.GetIdentity(), ResourceId: r.GetResourceId()})
	return reply, d.told(err)
}

func (d *desk) RespondActivityTaskFailed(ctx context.Context, r *workflowservice.RespondActivityTaskFailedRequest) (*workflowservice.RespondActivityTaskFailedResponse, error) {
	token, err := d.task(ctx, r.GetNamespace(), r.GetTaskToken())
	if err != nil {
		return nil, err
	}
	reply, err := d.options.To.RespondActivityTaskFailed(ctx, &workflowservice.RespondActivityTaskFailedRequest{
		TaskToken: token, Namespace: d.options.Namespace, Failure: r.GetFailure(), LastHeartbeatDetails: r.GetLastHeartbeatDetails(),
		Identity: r.GetIdentity(), ResourceId: r.GetResourceId()})
	return reply, d.told(err)
}

func (d *desk) RespondActivityTaskCanceled(ctx context.Context, r *workflowservice.RespondActivityTaskCanceledRequest) (*workflowservice.RespondActivityTaskCanceledResponse, error) {
	token, err := d.task(ctx, r.GetNamespace(), r.GetTaskToken())
	if err != nil {
		return nil, err
	}
	reply, err := d.options.To.RespondActivityTaskCanceled(ctx, &workflowservice.RespondActivityTaskCanceledRequest{
		TaskToken: token, Namespace: d.options.Namespace, Details: r.GetDetails(), Identity: r.GetIdentity(), ResourceId: r.GetResourceId()})
	return reply, d.told(err)
}

func (d *desk) ShutdownWorker(ctx context.Context, r *workflowservice.ShutdownWorkerRequest) (*workflowservice.ShutdownWorkerResponse, error) {
	if err := d.ownQueue(ctx, r.GetNamespace(), r.GetTaskQueue()); err != nil {
		return nil, err
	}
	reply, err := d.options.To.ShutdownWorker(ctx, &workflowservice.ShutdownWorkerRequest{
		Namespace: d.options.Namespace, TaskQueue: d.options.Queue, TaskQueueTypes: []enumspb.TaskQueueType{enumspb.TASK_QUEUE_TYPE_ACTIVITY},
		Identity: r.GetIdentity(), Reason: r.GetReason(), WorkerInstanceKey: r.GetWorkerInstanceKey()})
	return reply, d.told(err)
}
