package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/procs"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// newResume is the steering command resume. Without a reason it reads a folder instead and
// says what run would do: both are ways to go on with a campaign.
func newResume(steering *cobra.Command) *cobra.Command {
	steer := steering.RunE
	steering.Use = "resume NAME --why TEXT | resume DIR"
	steering.Short = "Go on after pause or drain; or say what run would do on a folder that holds part of a campaign"
	steering.Long += `

With a folder instead, a campaign's dataset (DATA/campaign=NAME) or a data folder, and no
--why: say of each campaign which of its trials are done and which are missing, who ran it
last, what people have told it that still holds, what the Temporal server knows of it, and
what run would do. Nothing is started and
nothing is changed: run itself goes on with what is missing, also when the server's
database is lost.`
	steering.Example += `
  heliotrope resume data
  heliotrope resume data/campaign=quick --json | jq .[].missing`
	steering.RunE = func(cmd *cobra.Command, args []string) error {
		flags := cmd.Flags()
		info, err := os.Stat(args[0])
		switch {
		case flags.Changed("why"):
			return steer(cmd, args)
		case err != nil && strings.ContainsRune(args[0], filepath.Separator):
			return usageError{fmt.Errorf("resume: there is no such folder: %w", err)}
		case err != nil || !info.IsDir():
			return steer(cmd, args)
		}
		stateDir, err := flags.GetString("state-dir")
		if err != nil {
			return err
		}
		asJSON, err := flags.GetBool("json")
		if err != nil {
			return err
		}
		return resumeFolders(cmd, &campaignCommand{stateDir: stateDir}, args[0], asJSON)
	}
	return steering
}

// resumeFolders says what run would do with the campaigns in a folder.
func resumeFolders(cmd *cobra.Command, shared *campaignCommand, path string, asJSON bool) error {
	folders, err := campaignFolders(path)
	if err != nil {
		return err
	}
	var all []standing
	for _, folder := range folders {
		one, err := readStanding(cmd.Context(), folder)
		if err != nil {
			return err
		}
		if err := one.ask(cmd.Context(), shared); err != nil {
			return err
		}
		all = append(all, one)
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), all)
	}
	for _, one := range all {
		if err := one.print(cmd.Context(), cmd.OutOrStdout()); err != nil {
			return err
		}
	}
	return nil
}

// standing is what a campaign's folder holds, and what run would do.
type standing struct {
	Folder   string                `json:"folder"` // absolute
	Campaign string                `json:"campaign"`
	Dataset  string                `json:"dataset"` // the folder's identity
	Begun    time.Time             `json:"begun"`
	Total    int                   `json:"total"` // trials
	Verdicts map[trial.Verdict]int `json:"verdicts"`
	Retried  int                   `json:"retried"`          // attempts beyond the first
	Missing  []int                 `json:"missing"`          // numbers of trials in the plan
	Holder   *dataset.Holder       `json:"holder,omitempty"` // the controller that runs it, or ran it last
	Server   string                `json:"server"`           // what the Temporal server knows of it
	Next     string                `json:"next"`             // what run would do
	SpecSHA  string                `json:"spec_sha256"`
	// Steered is what people have told the campaign and still holds, a sentence each.
	Steered []string `json:"steered"`
}

// readStanding reads a campaign's folder. A folder without an identity, or of another
// format, is bad input.
func readStanding(ctx context.Context, folder string) (standing, error) {
	absolute, err := filepath.Abs(folder)
	if err != nil {
		return standing{}, err
	}
	if _, err := dataset.ReadIdentity(absolute); errors.Is(err, fs.ErrNotExist) {
		return standing{}, usageError{fmt.Errorf("%s does not say which campaign it is of, and cannot be gone on with: only a version before identities wrote such datasets; `heliotrope check` and `judge` read it", absolute)}
	}
	record, err := dataset.Open(ctx, absolute, "")
	if err != nil {
		return standing{}, fmt.Errorf("read the dataset: %w", err)
	}
	identity, counts := record.Identity(), record.Counts()
	s := standing{Folder: absolute, Campaign: identity.Campaign, Dataset: identity.ID, Begun: identity.Created, SpecSHA: identity.SpecSHA256,
		Total: counts.Total, Verdicts: counts.Verdicts, Retried: counts.Retried, Missing: []int{}}
	for _, planned := range record.Plan() {
		if !record.Done(planned.Sequence) {
			s.Missing = append(s.Missing, planned.Sequence)
		}
	}
	steered, err := activities.StandingOf(record)
	if err != nil {
		return standing{}, err
	}
	s.Steered = append([]string{}, steered.Text()...)
	holder, err := dataset.ReadHolder(absolute)
	if err == nil {
		s.Holder = &holder
	} else if !errors.Is(err, fs.ErrNotExist) {
		return standing{}, err
	}
	return s, nil
}

// heldElsewhere says whether a controller other than that of the queue may still run the
// campaign. A controller on this machine whose process has ended does not.
func (s standing) heldElsewhere(queue string) bool {
	h := s.Holder
	if h == nil || h.Controller == queue || len(s.Missing) == 0 {
		return false
	}
	here, err := procs.Place()
	return err != nil || h.Place != here || s.holderLives()
}

// holderLives says whether the controller that last ran the campaign is a running process
// of this machine.
func (s standing) holderLives() bool {
	h := s.Holder
	here, err := procs.Place()
	return h != nil && err == nil && h.Place == here && procs.Process{PID: h.PID, StartTicks: h.StartTicks}.Same()
}

// done says how many trials are done, and how they ended.
func (s standing) done() string {
	shot := snapshot{Status: workflows.CampaignStatus{Progress: workflows.Progress{Total: s.Total, Verdicts: s.Verdicts, Retried: s.Retried}}}
	return shot.counts()
}

// ask asks the Temporal server, when one answers, what it knows of the campaign, and sets
// what run would do.
func (s *standing) ask(ctx context.Context, shared *campaignCommand) error {
	stateDir, err := shared.dir()
	if err != nil {
		return err
	}
	own := controllerQueue("")
	if last := lastServe(stateDir); last != nil {
		own = controllerQueue(last.Controller)
	}
	s.Next = s.left()
	if s.heldElsewhere(own) {
		s.Next += ", with --take-over: see that the controller that ran it last does not run it any more"
	}
	session, err := shared.open(ctx)
	if err != nil {
		s.Server = "none answers, and none is needed: what is done is in the dataset"
		return nil //nolint:nilerr // that is the answer
	}
	defer session.client.Close()
	info, err := describe(ctx, session.client, workflows.CampaignID(s.Campaign))
	switch {
	case errors.Is(err, errNoCampaign):
		s.Server = "knows no campaign of this name, and need not: what is done is in the dataset"
		return nil
	case err != nil:
		return fmt.Errorf("ask the Temporal server for campaign %s: %w", s.Campaign, err)
	}
	outcome := outcomeOf(info.GetStatus())
	s.Server = "knows it: it " + outcome.sentence()
	if outcome != outcomeRunning {
		return nil
	}
	return s.askRunning(ctx, session, info.GetTaskQueue(), own)
}

// askRunning asks about a running campaign. queue is the queue of its controller, and own
// that of this state folder's.
func (s *standing) askRunning(ctx context.Context, session *session, queue, own string) error {
	input, err := session.input(ctx, s.Campaign)
	if err != nil {
		return err
	}
	if !sameFolder(dataset.CampaignFolder(input.DataDir, s.Campaign), s.Folder) {
		s.Server += ", with its data in " + input.DataDir
		s.Next = "is refused, because a campaign of this name runs with another data folder"
		return nil
	}
	living, err := workingFor(ctx, session.client, queue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	switch {
	case err != nil:
		return err
	case len(living) > 0:
		s.Server += fmt.Sprintf(", by the controller %s", living[0])
		s.Next = "attaches to it"
	case queue == own:
		s.Next = "starts the controller again, and attaches to it"
	default:
		s.Server += ", and the controller that ran it does not work"
		s.Next = "attaches to it and waits for that controller; with --take-over, " + s.left()
	}
	return nil
}

// left says what run does about the missing trials.
func (s standing) left() string {
	if len(s.Missing) == 0 {
		return "writes the summary: nothing is missing"
	}
	return fmt.Sprintf("goes on with the %d trials that are missing", len(s.Missing))
}

// print shows the standing to people.
func (s standing) print(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "campaign %s in %s, begun %s\n", s.Campaign, s.Folder, s.Begun.Local().Format(time.DateTime))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "  done\t%s\n", s.done())
	fmt.Fprintf(w, "  missing\t%s\n", ranges(s.Missing))
	last := "nobody"
	if s.Holder != nil {
		last = fmt.Sprintf("the controller %s on %s, since %s", s.Holder.Controller, s.Holder.Host, s.Holder.Since.Local().Format(time.DateTime))
	}
	fmt.Fprintf(w, "  run by\t%s\n", printable(last))
	for _, told := range s.Steered {
		fmt.Fprintf(w, "  holds\t%s\n", printable(told))
	}
	fmt.Fprintf(w, "  server\t%s\n", printable(s.Server))
	fmt.Fprintf(w, "  run\t%s %s\n", hint(ctx, "run", "FILE", "--data", shellWord(filepath.Dir(s.Folder))), printable(s.Next))
	fmt.Fprintf(w, "  FILE\tthe campaign file as it was: %s is a copy\n", filepath.Join(s.Folder, "plan", "campaign.yaml"))
	return w.Flush()
}

// ranges formats ascending numbers briefly: 1, 4-7.
func ranges(numbers []int) string {
	if len(numbers) == 0 {
		return "nothing"
	}
	var parts []string
	for rest := numbers; len(rest) > 0; {
		count := 1
		for count < len(rest) && rest[count] == rest[0]+count {
			count++
		}
		part := strconv.Itoa(rest[0])
		if count > 1 {
			part += "-" + strconv.Itoa(rest[count-1])
		}
		parts, rest = append(parts, part), rest[count:]
	}
	const most = 12
	if len(parts) > most {
		parts = append(slices.Clone(parts[:most]), "…")
	}
	return fmt.Sprintf("%d (%s)", len(numbers), strings.Join(parts, ", "))
}
