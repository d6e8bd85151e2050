package page_test

import (
	"bytes"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"heliotrope/analysis/page"
)

// browser is Debian's Chromium without a window. Its network requests only reach a proxy,
// which refuses them.
type browser struct {
	proxy *httptest.Server
	mu    sync.Mutex
	asked []string // hosts
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	b := &browser{}
	b.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.asked = append(b.asked, r.Host)
		http.Error(w, "there is no network", http.StatusForbidden)
	}))
	t.Cleanup(b.proxy.Close)
	return b
}

// its are the hosts that the browser asks for its own updates, whatever options it gets.
var its = []string{"clients2.google.com", "update.googleapis.com", "accounts.google.com", "edgedl.me.gvt1.com", "content-autofill.googleapis.com", "optimizationguide-pa.googleapis.com", "www.google.com", "android.clients.google.com"}

// others are the hosts that were asked for anything else.
func (b *browser) others() (hosts []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, host := range b.asked {
		if name, _, _ := strings.Cut(host, ":"); !slices.Contains(its, name) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// open opens a file, and returns what the browser prints, and what pages tell its
// console.
func (b *browser) open(t *testing.T, file string, options ...string) (out []byte, console []string) {
	t.Helper()
	arguments := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--hide-scrollbars", "--no-pdf-header-footer", "--enable-logging=stderr", "--user-data-dir=" + t.TempDir(), "--proxy-server=" + b.proxy.URL}, options...)
	cmd := exec.CommandContext(t.Context(), "chromium", append(arguments, (&url.URL{Scheme: "file", Path: file}).String())...)
	var told bytes.Buffer
	cmd.Stderr = &told
	out, err := cmd.Output()
	require.NoError(t, err, told.String())
	for line := range strings.Lines(told.String()) {
		if strings.Contains(line, "CONSOLE") {
			console = append(console, strings.TrimSpace(line))
		}
	}
	return out, console
}

// TestBrowserSees: the assumption of the browser tests below. A page with a network
// request, and a page with an error, are noticed.
func TestBrowserSees(t *testing.T) {
	b := newBrowser(t)
	file := filepath.Join(t.TempDir(), "bad.html")
	require.NoError(t, os.WriteFile(file, []byte(`<!DOCTYPE html><img src="http://report.invalid/a.png"><script>nothing()</script>`), 0o644))
	_, console := b.open(t, file, "--dump-dom")
	assert.NotEmpty(t, console)
	assert.Contains(t, b.others(), "report.invalid")
}

// TestBrowser: the report in a browser has no errors, makes no requests, and has its
// headings in order; every drawing has a title and every figure its table; it is dark for
// readers who want that, and can be printed.
func TestBrowser(t *testing.T) { render(t, made(t, folder(t), page.Options{}), 4) }

// render checks a report in a browser. Printed, it must have more than pagesAbove pages.
func render(t *testing.T, report *page.Report, pagesAbove int) {
	t.Helper()
	b := newBrowser(t)
	out := t.TempDir()
	files, err := report.Write(out)
	require.NoError(t, err)

	dom, console := b.open(t, files[0], "--dump-dom")
	assert.Empty(t, console)
	root, err := html.Parse(bytes.NewReader(dom))
	require.NoError(t, err)
	checkHeadings(t, root)
	drawings := elements(root, "svg")
	assert.Len(t, drawings, report.Figures)
	for _, svg := range drawings {
		assert.Equal(t, "img", attribute(svg, "role"))
		for _, id := range strings.Fields(attribute(svg, "aria-labelledby")) {
			assert.NotEmpty(t, text(byID(root, id)), id)
		}
	}
	figures := elements(root, "figure")
	assert.Len(t, figures, report.Figures)
	for _, figure := range figures {
		assert.Len(t, elements(figure, "svg"), 1)
		assert.NotEmpty(t, text(elements(figure, "figcaption")[0]))
		assert.NotEmpty(t, elements(elements(figure, "details")[0], "tbody"), "the numbers behind it")
	}
	checkTables(t, root)
	checkKeyboard(t, root)

	for preference, light := range map[string]bool{"1": true, "0": false} { // Blink's: 0 is dark
		shot := filepath.Join(out, "shot"+preference+".png")
		_, console := b.open(t, files[0], "--blink-settings=preferredColorScheme="+preference, "--window-size=1200,900", "--screenshot="+shot)
		assert.Empty(t, console)
		assert.Equal(t, light, corner(t, shot) > 0x80, "preference %s", preference)
	}
	paper := filepath.Join(out, "report.pdf")
	_, console = b.open(t, files[0], "--print-to-pdf="+paper)
	assert.Empty(t, console)
	pdf, err := os.ReadFile(paper)
	require.NoError(t, err)
	assert.True(t, bytes.HasPrefix(pdf, []byte("%PDF-")))
	pages := bytes.Count(pdf, []byte("/Type /Page\n"))
	assert.Greater(t, pages, pagesAbove)
	assert.Empty(t, b.others(), "the page asks for nothing")
	t.Logf("%d pages of paper, %d figures", pages, report.Figures)
}

// checkHeadings: one h1, and no level is left out on the way down.
func checkHeadings(t *testing.T, root *html.Node) {
	t.Helper()
	level, first := 0, 0
	walk(root, func(n *html.Node) {
		if len(n.Data) == 2 && n.Data[0] == 'h' && n.Data[1] >= '1' && n.Data[1] <= '6' {
			next := int(n.Data[1] - '0')
			assert.LessOrEqual(t, next, level+1, text(n))
			if level = next; level == 1 {
				first++
			}
			assert.NotEmpty(t, strings.TrimSpace(text(n)))
		}
	})
	assert.Equal(t, 1, first)
}

// checkTables: each has a caption, and headers with a scope; each row as many cells.
func checkTables(t *testing.T, root *html.Node) {
	t.Helper()
	for _, table := range elements(root, "table") {
		caption := text(elements(table, "caption")[0])
		assert.NotEmpty(t, caption)
		columns := len(elements(elements(table, "thead")[0], "th"))
		for _, header := range elements(table, "th") {
			assert.Contains(t, []string{"col", "row"}, attribute(header, "scope"), caption)
		}
		for _, row := range elements(elements(table, "tbody")[0], "tr") {
			assert.Equal(t, columns, len(elements(row, "td"))+len(elements(row, "th")), caption)
		}
	}
}

// checkKeyboard: links lead somewhere, and what scrolls can be reached.
func checkKeyboard(t *testing.T, root *html.Node) {
	t.Helper()
	links := elements(root, "a")
	require.NotEmpty(t, links)
	assert.Equal(t, "skip", attribute(links[0], "class"), "first of all")
	for _, link := range links {
		assert.NotNil(t, byID(root, strings.TrimPrefix(attribute(link, "href"), "#")), attribute(link, "href"))
	}
	ids := map[string]int{}
	walk(root, func(n *html.Node) {
		if id := attribute(n, "id"); id != "" {
			ids[id]++
		}
		if attribute(n, "class") == "scroll" {
			assert.Equal(t, "0", attribute(n, "tabindex"))
			assert.NotEmpty(t, attribute(n, "aria-label"))
		}
	})
	for id, n := range ids {
		assert.Equal(t, 1, n, id)
	}
}

// corner is the brightness of a picture's first pixel.
func corner(t *testing.T, path string) uint32 {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	picture, err := png.Decode(file)
	require.NoError(t, err)
	r, g, b, _ := picture.At(1, 1).RGBA()
	return (r>>8 + g>>8 + b>>8) / 3
}

func walk(n *html.Node, see func(*html.Node)) {
	for child := range n.ChildNodes() {
		if child.Type == html.ElementNode {
			see(child)
		}
		walk(child, see)
	}
}

func elements(n *html.Node, name string) (found []*html.Node) {
	walk(n, func(e *html.Node) {
		if e.Data == name {
			found = append(found, e)
		}
	})
	return found
}

func byID(n *html.Node, id string) (found *html.Node) {
	walk(n, func(e *html.Node) {
		if id != "" && attribute(e, "id") == id {
			found = e
		}
	})
	return found
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	if n == nil {
		return ""
	}
	var out strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			fmt.Fprint(&out, d.Data)
		}
	}
	return out.String()
}
