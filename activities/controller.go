package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.temporal.io/sdk/activity"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/fault"
	"heliotrope/internal/procs"
)

// stillOurs refuses to go on with a campaign that another controller has taken over: two
// controllers that run the same trials spoil each other's measurements. Outside of a
// workflow there is no controller.
func stillOurs(ctx context.Context, record *dataset.Record) error {
	if !activity.IsActivity(ctx) {
		return nil
	}
	holder, err := dataset.ReadHolder(record.Folder())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if own := activity.GetInfo(ctx).TaskQueue; err == nil && holder.Controller != own {
		return fault.New(fault.BadInput, "the campaign in %s was taken over by another controller, %s on %s, at %s: it goes on there",
			record.Folder(), holder.Controller, holder.Host, holder.Since.Format(time.RFC3339))
	}
	return err
}

// hold notes in a campaign's folder which controller runs it, and notes the change as an
// event, once for each execution of the campaign.
func hold(ctx context.Context, record *dataset.Record, execution string) error {
	holder, err := dataset.ReadHolder(record.Folder())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	controller := activity.GetInfo(ctx).TaskQueue
	if err == nil && holder.Execution == execution && holder.Controller == controller {
		return nil
	}
	host, hostErr := os.Hostname()
	place, placeErr := procs.Place()
	own, ownErr := procs.Look(os.Getpid())
	if err := errors.Join(hostErr, placeErr, ownErr); err != nil {
		return fmt.Errorf("note who runs the campaign: %w", err)
	}
	event := dataset.CampaignEvent{ID: "run/" + execution, Name: dataset.EventRun, Detail: fmt.Sprintf("by the controller %s on %s", controller, host)}
	if holder.Controller != "" && holder.Controller != controller {
		event.Detail += fmt.Sprintf(", which took it over from %s on %s", holder.Controller, holder.Host)
	}
	if err := record.Event(ctx, event); err != nil {
		return err
	}
	return record.Hold(dataset.Holder{Controller: controller, Host: host, Place: place, PID: own.PID, StartTicks: own.StartTicks,
		Execution: execution, Since: time.Now().UTC()})
}
