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
	"heliotrope/internal/procs"
)

// hold notes in a campaign's folder which controller runs it, once for each
// execution of the campaign.
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
	return record.Hold(dataset.Holder{Controller: controller, Host: host, Place: place, PID: own.PID, StartTicks: own.StartTicks,
		Execution: execution, Since: time.Now().UTC()})
}
