package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// display shows a campaign's progress.
type display interface {
	show(snapshot)
	// note shows a message besides the progress.
	note(text string)
	close()
}

// newDisplay shows bars on a terminal, and lines elsewhere.
func newDisplay(out io.Writer) display {
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return newBars(out)
	}
	return &lines{out: out, now: time.Now}
}

// heartbeat is the longest time without a line.
const heartbeat = time.Minute

// lines shows each change on a line of its own, and at least one line each minute.
type lines struct {
	out     io.Writer
	now     func() time.Time
	state   string
	lanes   map[string]string // by lane, its key
	written time.Time         // time of the last line
}

func (l *lines) show(shot snapshot) {
	if state := fmt.Sprintf("%s %s %s", shot.Outcome, shot.Status.State, shot.counts()); state != l.state {
		l.state = state
		l.line(shot.At, shot.headline())
	}
	lanes := map[string]string{}
	for _, lane := range shot.Lanes {
		lanes[lane.Lane] = lane.key()
		if l.lanes[lane.Lane] != lane.key() {
			l.line(shot.At, lane.headline(shot.Status.Progress.Total, shot.At))
		}
	}
	l.lanes = lanes
	if shot.At.Sub(l.written) >= heartbeat {
		l.line(shot.At, shot.headline())
		for _, lane := range shot.Lanes {
			l.line(shot.At, lane.headline(shot.Status.Progress.Total, shot.At))
		}
	}
}

func (l *lines) line(at time.Time, text string) {
	fmt.Fprintln(l.out, at.Format("15:04:05"), text)
	l.written = at
}

func (l *lines) note(text string) { l.line(l.now(), text) }

func (l *lines) close() {}

// bars is a bar for the campaign, with a line for each lane below.
type bars struct {
	container *mpb.Progress
	campaign  *mpb.Bar
	lanes     []*mpb.Bar
	// Texts that the decorators show. The container reads them from a goroutine of its own.
	headline  sharedText
	laneLines []*sharedText
}

const barRefresh = 250 * time.Millisecond

func newBars(out io.Writer) *bars {
	return newBarsWith(mpb.WithOutput(out), mpb.WithRefreshRate(barRefresh))
}

func newBarsWith(options ...mpb.ContainerOption) *bars {
	b := &bars{container: mpb.New(options...)}
	b.campaign = b.container.New(0, mpb.BarStyle(), mpb.BarPriority(0), mpb.BarWidth(30),
		mpb.AppendDecorators(decor.Any(b.headline.decorate)))
	return b
}

func (b *bars) show(shot snapshot) {
	b.headline.set(" " + shot.headline())
	progress := shot.Status.Progress
	b.campaign.SetTotal(int64(progress.Total), false)
	b.campaign.SetCurrent(int64(progress.Done()))
	for len(b.lanes) < len(shot.Lanes) {
		text := &sharedText{}
		b.laneLines = append(b.laneLines, text)
		b.lanes = append(b.lanes, b.container.New(0, mpb.NopStyle(), mpb.BarPriority(1+len(b.lanes)),
			mpb.PrependDecorators(decor.Any(text.decorate))))
	}
	for i, text := range b.laneLines {
		line := ""
		if i < len(shot.Lanes) {
			line = shot.Lanes[i].headline(progress.Total, shot.At)
		}
		text.set("  " + line)
	}
}

func (b *bars) note(text string) { fmt.Fprintln(b.container, printable(text)) }

// close leaves the last state on the terminal. It ends the bars without aborting them, so
// that their last frame is drawn.
func (b *bars) close() {
	for _, lane := range b.lanes {
		lane.Abort(true)
	}
	b.campaign.Abort(false)
	b.container.Wait()
}
