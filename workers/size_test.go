package workers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/mocks"
)

// TestFolderSize counts files at every depth, and ends with its context.
func TestFolderSize(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "a", "b"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "one"), make([]byte, 100), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "a", "b", "two"), make([]byte, 20), 0o644))
	bytes, err := folderSize(t.Context(), folder)
	require.NoError(t, err)
	assert.EqualValues(t, 120, bytes)
	bytes, err = folderSize(t.Context(), filepath.Join(folder, "gone"))
	require.NoError(t, err)
	assert.Zero(t, bytes)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = folderSize(ended, folder)
	require.ErrorIs(t, err, context.Canceled)
}

// TestFoldersAreMeasuredSeldom: callers in between get the last measured size, and a failed
// measurement changes nothing.
func TestFoldersAreMeasuredSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, measured := newSizes(t.Context()), 0
		s.measure = func(context.Context, string) (int64, error) {
			measured++
			if measured == 3 {
				return 1, errors.New("the disk is away")
			}
			return int64(measured) * 1000, nil
		}
		assert.Zero(t, s.of("/data/night"))
		synctest.Wait()
		for range 59 { // 9 min and 50 s
			assert.EqualValues(t, 1000, s.of("/data/night"))
			time.Sleep(observeEvery)
			synctest.Wait()
		}
		assert.Equal(t, 1, measured)
		time.Sleep(observeEvery)
		for _, want := range []int64{1000, 2000, 2000} {
			assert.Equal(t, want, s.of("/data/night"))
			synctest.Wait()
		}
		assert.Equal(t, 2, measured)
		time.Sleep(sizeEvery)
		s.of("/data/night")
		synctest.Wait()
		assert.EqualValues(t, 2000, s.of("/data/night"))
		assert.Equal(t, 3, measured)
	})
}

// TestHungDiskKeepsNobodyWaiting: callers get an answer while a disk hangs, and only one
// measurement waits for the disk.
func TestHungDiskKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, asked, hangs := newSizes(t.Context()), 0, make(chan struct{})
		s.measure = func(context.Context, string) (int64, error) { // whatever its context says
			asked++
			<-hangs
			return 0, nil
		}
		for range 3 {
			assert.Zero(t, s.of("/mnt/hung"))
			synctest.Wait()
			time.Sleep(sizeEvery)
		}
		assert.Equal(t, 1, asked)
		close(hangs)
		synctest.Wait()
	})
}

// campaignIn is a client of a server with one campaign that runs, in a data folder.
func campaignIn(t *testing.T, dataDir string) *mocks.Client {
	t.Helper()
	memo, err := converter.GetDefaultDataConverter().ToPayload(dataDir)
	require.NoError(t, err)
	c := &mocks.Client{}
	c.On("ListWorkflow", mock.Anything, mock.MatchedBy(func(r *workflowservice.ListWorkflowExecutionsRequest) bool { return r.GetPageSize() > 1 })).
		Return(&workflowservice.ListWorkflowExecutionsResponse{Executions: []*workflow.WorkflowExecutionInfo{{
			Execution: &common.WorkflowExecution{WorkflowId: "campaign/night"},
			Memo:      &common.Memo{Fields: map[string]*common.Payload{"data_dir": memo}}}}}, nil)
	c.On("ListWorkflow", mock.Anything, mock.Anything).Return(&workflowservice.ListWorkflowExecutionsResponse{}, nil)
	c.On("QueryWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil, errors.New("it does not answer"))
	return c
}

// TestDatasetsAreMeasuredForMetricsAlone: hooks do not need sizes.
func TestDatasetsAreMeasuredForMetricsAlone(t *testing.T) {
	dataDir := t.TempDir()
	folder := filepath.Join(dataDir, "campaign=night")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "rows"), make([]byte, 100), 0o644))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var seen atomic.Int64
		observer := &Observer{Client: campaignIn(t, dataDir), Log: zerolog.Nop(), Seen: func(o Observation) { seen.Store(o.Campaigns[0].DatasetBytes) }}
		go observer.Run(ctx)
		time.Sleep(observeEvery + time.Second)
		synctest.Wait()
		assert.EqualValues(t, 100, seen.Load())
		cancel()
		synctest.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		observer := &Observer{Client: campaignIn(t, dataDir), Log: zerolog.Nop()}
		go observer.Run(ctx)
		time.Sleep(sizeEvery)
		synctest.Wait()
		assert.Nil(t, observer.sizes)
		cancel()
		synctest.Wait()
	})
}
