package dataset

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Files and folders in a campaign's folder.
const (
	attemptsFile  = "attempts.parquet"
	trialsFile    = "trials.parquet" // in schema version 1 it has the attempts
	phasesFile    = "phases.parquet"
	manifestFile  = "manifest.json"
	segmentFolder = "segments" // of attempts whose rows are not in attempts.parquet yet

	// SummaryFile is the summary's name in a campaign's folder.
	SummaryFile = "summary.md"
)

// CampaignFolder is the folder of a campaign's dataset: <data>/campaign=NAME.
func CampaignFolder(data, campaign string) string {
	return filepath.Join(data, "campaign="+url.PathEscape(campaign))
}

// CampaignName is the campaign's name in the path of a CampaignFolder; "" when the path is
// none.
func CampaignName(folder string) string {
	escaped, ok := strings.CutPrefix(filepath.Base(folder), "campaign=")
	name, err := url.PathUnescape(escaped)
	if !ok || err != nil {
		return ""
	}
	return name
}

// TrialFolder is the folder of an attempt's files, relative to the campaign's folder, with
// slashes: storage=S/rtt_ms=R/attempt=KEY. In older datasets it is called trial=KEY: an
// attempt's row says where its files are.
func TrialFolder(storage string, rttMs float64, key string) string {
	return fmt.Sprintf("storage=%s/rtt_ms=%s/attempt=%s",
		url.PathEscape(storage), strconv.FormatFloat(rttMs, 'f', -1, 64), url.PathEscape(key))
}

// escapeGlob escapes a path so that filepath.Glob takes it literally.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// remove deletes files; a missing one is no error.
func remove(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
