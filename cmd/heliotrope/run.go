package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"heliotrope/deploy/lab"
	"heliotrope/internal/campaign"
	"heliotrope/workflows"
)

// runOptions are the arguments of run.
type runOptions struct {
	campaignCommand
	dataDir string
	testbed string
	detach  bool
	asJSON  bool
	// takeOver goes on with a campaign that another controller ran last.
	takeOver bool
	// ordinary runs the steps of simulated trials like those of real ones.
	ordinary bool
}

func newRun() *cobra.Command {
	options := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run FILE",
		Short: "Run a campaign, and show its progress until it ends",
		Long: `Run a campaign, and show its progress until it ends. Everything is checked before a
host is touched. The emulated testbed is started when the campaign asks for it, and a
controller in the background when none runs. Ctrl-C ends the watching, not the
campaign; the same command again attaches to it. A data folder that holds part of the
campaign is gone on with: its trials are not run again, whether the Temporal server
still knows them or not. What another controller ran last needs --take-over.

Exit codes: 0 the campaign finished (failed migrations are results too), 1 it
failed, was cancelled, or left no valid trial, 2 bad input, 130 Ctrl-C.`,
		Example: `  heliotrope run examples/quick.yaml
  heliotrope run examples/thesis.yaml --data /srv/thesis --detach
  heliotrope run examples/quick.yaml --json 2>progress.log | jq .summary`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return options.run(cmd, args[0]) },
	}
	options.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&options.dataDir, "data", "data", "folder for the dataset; made when it is not there")
	flags.StringVar(&options.testbed, "testbed-name", lab.DefaultOptions().Name, "which emulated testbed to use, or start")
	flags.BoolVar(&options.detach, "detach", false, "start the campaign and return")
	flags.BoolVar(&options.takeOver, "take-over", false, "go on with a campaign that another controller ran last, and does not run any more")
	flags.BoolVar(&options.ordinary, "ordinary-steps", false, "of testbed: simulated: have the server know of each step of a trial, as with real testbeds; slower")
	flags.BoolVar(&options.asJSON, "json", false, "print the result as JSON; the progress goes to standard error")
	return cmd
}

// request is a campaign to be run.
type request struct {
	spec     *campaign.Spec
	yaml     []byte
	files    map[string][]byte // Iometer's files, by their names in the campaign file
	folder   string            // the folder that relative paths in the file start from
	trials   []campaign.Trial
	estimate campaign.Estimate
	dataDir  string // absolute
	// dataGiven says that the command line named the data folder.
	dataGiven bool
	// owns becomes wanted.owns.
	owns func(owner string) bool
}

// wanted is what the campaign needs of its testbeds.
func (r *request) wanted() wanted {
	disk := r.spec.Disk
	want := wanted{trials: r.trials, diskBytes: int64(disk.SizeMiB) << 20, owns: r.owns}
	if disk.Precondition == campaign.PreconditionFill {
		want.fillBytes = int64(disk.SizeMiB-disk.LedgerMiB) << 20
	}
	return want
}

// loadRequest reads a campaign file; any error in it is bad input.
func loadRequest(file, dataDir string) (*request, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError{fmt.Errorf("campaign: %w", err)}
	}
	r := &request{yaml: text, files: map[string][]byte{}}
	if r.folder, err = filepath.Abs(filepath.Dir(file)); err != nil {
		return nil, err
	}
	if r.spec, err = campaign.Parse(file, text, r.read); err != nil {
		return nil, usageError{err}
	}
	if r.dataDir, err = filepath.Abs(dataDir); err != nil {
		return nil, err
	}
	r.trials = r.spec.Plan()
	r.estimate = r.spec.Estimate(r.trials)
	return r, nil
}

// maxFileBytes is the largest total size of Iometer's files in a campaign: their texts are
// part of the workflow's input, and Temporal takes 2 MiB.
const maxFileBytes = 512 << 10

// read reads one of Iometer's files, and keeps its text for the campaign's workflow.
func (r *request) read(name string) ([]byte, error) {
	path := r.path(name)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r.files[name] = text
	bytes := 0
	for _, text := range r.files {
		bytes += len(text)
	}
	if bytes > maxFileBytes {
		return nil, fmt.Errorf("%s: Iometer's files are %d bytes together, and a campaign takes %d: save what it needs in a smaller one", path, bytes, maxFileBytes)
	}
	return text, nil
}

// path is the path of a file that the campaign file names.
func (r *request) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.folder, name)
}

// neededBytes is the disk space that the dataset needs, plus what must stay free.
func (r *request) neededBytes() int64 {
	return r.estimate.Bytes + int64(r.spec.Limits.MinFreeMiB)<<20
}

// sha256 is the hash of the campaign file. When the file names files of Iometer's, it is
// the hash of the campaign file's text followed by a line "name sha256" for each of them,
// in the order of their names.
func (r *request) sha256() string {
	text := slices.Clone(r.yaml)
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		text = fmt.Appendf(text, "%s %x\n", name, sha256.Sum256(r.files[name]))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// input is the input that the campaign's workflow is started with.
func (r *request) input(beds []laneBed) workflows.CampaignInput {
	input := workflows.CampaignInput{Name: r.spec.Name, SpecYAML: string(r.yaml), SpecSHA256: r.sha256(), Files: r.files, DataDir: r.dataDir}
	for _, bed := range beds {
		input.Lanes = append(input.Lanes, bed.lane)
	}
	return input
}

// trialEstimate is how long one trial takes according to the plan; 0 when the campaign file
// is of another version and cannot be parsed.
func trialEstimate(input workflows.CampaignInput) time.Duration {
	spec, err := campaign.Parse(input.Name, []byte(input.SpecYAML), campaign.FromTexts(input.Files))
	if err != nil {
		return 0
	}
	trials := spec.Plan()
	if len(trials) == 0 {
		return 0
	}
	return spec.Estimate(trials).Work / time.Duration(len(trials))
}

func (o *runOptions) run(cmd *cobra.Command, file string) error {
	ctx := cmd.Context()
	progress := func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), printable(text)) }
	r, err := loadRequest(file, o.dataDir)
	if err != nil {
		return err
	}
	r.dataGiven = cmd.Flags().Changed("data")
	session, err := o.start(ctx, r, progress)
	if err != nil && ctx.Err() != nil {
		progress("heliotrope: interrupted; the campaign was not started: " + err.Error())
		return exitCode(exitDetached)
	}
	if err != nil {
		return err
	}
	defer session.client.Close()
	if session.ui != "" {
		progress("Temporal UI: " + session.ui)
	}
	if o.detach {
		progress(fmt.Sprintf("campaign %s runs; %s shows it", r.spec.Name, hint(ctx, "watch", r.spec.Name)))
		if o.asJSON {
			return printJSON(cmd.OutOrStdout(), map[string]string{"name": r.spec.Name, "workflow_id": workflows.CampaignID(r.spec.Name), "ui": session.ui})
		}
		return nil
	}
	return session.follow(cmd, r.spec.Name, o.asJSON)
}
