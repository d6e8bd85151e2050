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
	trialsFile    = "trials.parquet" // in schema version 1, the attempts
	phasesFile    = "phases.parquet"
	manifestFile  = "manifest.json"
	segmentFolder = "segments" // of attempts whose rows are not in attempts.parquet yet

	// SummaryFile is the report's name in a campaign's folder.
	SummaryFile = "summary.md"
)

// CampaignFolder is where a campaign's dataset is: <data>/campaign=NAME.
func CampaignFolder(data, campaign string) string {
	return filepath.Join(data, "campaign="+url.PathEscape(campaign))
}

// CampaignName is the name in a CampaignFolder; "" when it is none.
func CampaignName(folder string) string {
	escaped, ok := strings.CutPrefix(filepath.Base(folder), "campaign=")
	name, err := url.PathUnescape(escaped)
	if !ok || err != nil {
		return ""
	}
	return name
}

// TrialFolder is where the files of an attempt are, in the campaign's folder,
// with slashes: storage=S/rtt_ms=R/attempt=KEY. Folders from before are called
// trial=KEY: its row says where an attempt has its files.
func TrialFolder(storage string, rttMs float64, key string) string {
	return fmt.Sprintf("storage=%s/rtt_ms=%s/attempt=%s",
		url.PathEscape(storage), strconv.FormatFloat(rttMs, 'f', -1, 64), url.PathEscape(key))
}

// escapeGlob makes a path mean itself in a pattern of filepath.Glob.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// remove deletes files; one that is not there is no error.
func remove(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
