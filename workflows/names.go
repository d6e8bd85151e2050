package workflows

import (
	"heliotrope/activities"
	"heliotrope/internal/trial"
)

// Names by which the workflows are registered: changing one breaks running campaigns.
const (
	CampaignName = "Campaign"
	LaneName     = "Lane"
	TrialName    = "Trial"
	// StatusQuery asks a Campaign for a CampaignStatus, a Lane for a LaneReport, and a
	// Trial for a TrialStatus.
	StatusQuery = "status"
	// ReportSignal carries a LaneReport to the campaign, and OrdersSignal carries Orders to
	// a lane.
	ReportSignal = "report"
	OrdersSignal = "orders"
	// CancelSignal tells a campaign, with an activities.Steering, who is going to cancel it
	// and why, just before it is cancelled: a cancellation itself carries no information,
	// and needs no controller.
	CancelSignal = activities.EventCancel
)

// CampaignID is the workflow ID of a campaign.
func CampaignID(name string) string { return "campaign/" + name }

// LaneID is the workflow ID of a campaign's lane.
func LaneID(campaign, lane string) string { return "lane/" + campaign + "/" + lane }

// TrialID is the workflow ID of a trial.
func TrialID(campaign string, sequence int) string {
	return "trial/" + campaign + "/" + sequenceText(sequence)
}

// DefaultQueue is the task queue of a controller without an identity. A controller's queue
// carries the workflows, and the activities that concern several hosts or the dataset. The
// names of other queues begin with its name.
const DefaultQueue = "heliotrope"

// HostQueue is the task queue of the worker on a host of a testbed.
func HostQueue(controller, lane, host string) string { return controller + "." + lane + "." + host }

// GuestQueue is the task queue of the worker in an attempt's guest: each attempt has a
// guest of its own.
func GuestQueue(controller, lane string, ref trial.Ref) string {
	return controller + "." + lane + ".guest." + ref.Campaign + "." + ref.Key()
}
