package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"tablekeeper/cmd/bench/peak"
)

// served is a service under measurement, reached as browsers reach it.
type served struct {
	cmd   *exec.Cmd
	base  string
	token string
	http  *http.Client
	look  int64 // bytes of the list of all tables
}

// idle is how long a service with nothing to do is watched.
const idle = 10 * time.Second

// measureStreams measures a service alone, with so many browsers that look at its overview, and while it works with and without them.
func (b *bench) measureStreams(ctx context.Context, tables, streams int) (rows []row, err error) {
	s, err := b.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, s.stop())
		rows = append(rows, row{What: "service, the highest of all that", Memory: peak.Memory(s.cmd.ProcessState), Note: fmt.Sprintf("one look at all tables is %d KB", s.look/1000)})
	}()
	if err := s.settled(ctx); err != nil { // what a first start catches up on
		return nil, err
	}
	watch := func(what string, work func() (string, error)) error {
		fmt.Fprintln(b.progress, what)
		r, err := s.watch(ctx, what, work)
		rows = append(rows, r)
		return err
	}
	rest := func() (string, error) { return "", rest(ctx, idle) }
	work := func() (string, error) { return "", s.work(ctx, tables) }
	if err := errors.Join(watch("service, idle", rest), watch("service, drills of all tables", work)); err != nil {
		return rows, err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	browsers, err := s.open(watching, streams)
	if err != nil {
		return rows, err
	}
	_, err = browsers.looked(ctx, 1)
	s.look = browsers.size.Load()
	if err == nil {
		err = watch(fmt.Sprintf("service with %d browsers, idle", streams), rest)
	}
	if err == nil {
		err = watch(fmt.Sprintf("service with %d browsers, drills of all tables", streams), func() (string, error) {
			if err := s.work(ctx, tables); err != nil {
				return "", err
			}
			return browsers.looked(ctx, 3) // when they came, at the begin of the run and at its end
		})
	}
	stop()
	browsers.wait.Wait()
	if err != nil {
		return rows, err
	}
	return rows, watch("service after they have gone, idle", rest)
}

var linkPattern = regexp.MustCompile(`(http://127\.0\.0\.1:\d+)/#token=(\S+)`)

// serve starts the service and waits for its link.
func (b *bench) serve(ctx context.Context) (*served, error) {
	s := &served{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}}
	s.cmd = exec.CommandContext(ctx, b.path("tablekeeper"), "--tables", b.path("tables"), "--bucket", "file://"+b.path("bucket"), "--log-format", "json", "serve")
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(os.Interrupt) }
	s.cmd.Env = append(os.Environ(), "TABLEKEEPER_LISTEN=127.0.0.1:0", "TABLEKEEPER_STORES=off")
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := linkPattern.FindStringSubmatch(lines.Text()); m != nil {
			s.base, s.token = m[1], m[2]
			go func() { _, _ = io.Copy(io.Discard, out) }() // nothing more is said there
			return s, nil
		}
	}
	return nil, errors.Join(errors.New("serve ended without a link to its dashboard"), s.cmd.Wait())
}

func (s *served) stop() error {
	s.http.CloseIdleConnections()
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return s.cmd.Wait()
}

// call makes a request and reads the answer into v, if that is not nil.
func (s *served) call(ctx context.Context, method, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	if v == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// settled waits until no run is under way.
func (s *served) settled(ctx context.Context) error {
	for {
		var fleet struct{ Active []json.RawMessage }
		if err := errors.Join(rest(ctx, time.Second), s.call(ctx, http.MethodGet, "/api/admin/fleet", &fleet)); err != nil {
			return err
		}
		if len(fleet.Active) == 0 {
			return nil
		}
	}
}

// work has every table's newest backup restored and read.
func (s *served) work(ctx context.Context, tables int) error {
	var run struct {
		Status string
		Counts struct{ Tables, Failed int }
	}
	if err := s.call(ctx, http.MethodPost, "/api/admin/verify", &run); err != nil {
		return err
	}
	if run.Counts.Tables != tables || run.Counts.Failed > 0 {
		return fmt.Errorf("the drills: %+v", run)
	}
	return nil
}

// watch says what the service used while something was done.
func (s *served) watch(ctx context.Context, what string, work func() (string, error)) (row, error) {
	before, err := s.usage(ctx)
	if err != nil {
		return row{}, err
	}
	begun := time.Now()
	note, err := work()
	wall := time.Since(begun)
	if err != nil {
		return row{}, fmt.Errorf("%s: %w", what, err)
	}
	after, err := s.usage(ctx)
	r := row{What: what, WallMS: wall.Milliseconds(), CPU: (after.cpu - before.cpu) / wall.Seconds(), Memory: int64(after.memory)}
	r.Note = strings.TrimPrefix(note+fmt.Sprintf("; %.0f goroutines, %.0f descriptors", after.goroutines, after.descriptors), "; ")
	return r, err
}

// metered is what a process says of itself.
type metered struct{ cpu, memory, goroutines, descriptors float64 }

// usage reads the service's own metrics.
func (s *served) usage(ctx context.Context) (m metered, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/metrics", nil)
	if err != nil {
		return m, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.http.Do(req)
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	wanted := map[string]*float64{"process_cpu_seconds_total": &m.cpu, "process_resident_memory_bytes": &m.memory, "go_goroutines": &m.goroutines, "process_open_fds": &m.descriptors}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if to := wanted[name]; to != nil {
			if *to, err = strconv.ParseFloat(value, 64); err != nil {
				return m, fmt.Errorf("metric %s: %w", name, err)
			}
		}
	}
	return m, nil
}

// browsers are as many pages that show the overview: each listens to the stream and asks for all tables when something has happened.
type browsers struct {
	all    []*browser
	wait   sync.WaitGroup
	failed chan error
	size   atomic.Int64 // bytes of the list of all tables
}

type browser struct {
	kept, progress, lost, looks atomic.Int64
	newest                      atomic.Int64 // sequence number
}

// open starts the pages; they end with ctx.
func (s *served) open(ctx context.Context, streams int) (*browsers, error) {
	b := &browsers{failed: make(chan error, 2*streams)}
	for range streams {
		header := http.Header{"Authorization": {"Bearer " + s.token}}
		conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.base, "http")+"/api/admin/events", &websocket.DialOptions{HTTPHeader: header}) //nolint:bodyclose // there is none: the connection is the stream's
		if err != nil {
			return nil, err
		}
		conn.SetReadLimit(16 << 20)
		page, due := &browser{}, make(chan struct{}, 1)
		b.all = append(b.all, page)
		b.wait.Go(func() {
			defer close(due)
			b.note(ctx, page.listen(ctx, conn, due))
		})
		b.wait.Go(func() { b.note(ctx, page.look(ctx, s, due, &b.size)) })
	}
	return b, nil
}

func (b *browsers) note(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		b.failed <- err
	}
}

// listen takes what the stream says.
func (p *browser) listen(ctx context.Context, conn *websocket.Conn, due chan<- struct{}) error {
	defer func() { _ = conn.CloseNow() }()
	runs := map[string]bool{}
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		var m struct {
			Type     string
			Sequence int64
			RunID    string `json:"run_id"`
			Lost     int64
		}
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		news := true
		switch m.Type {
		case "run_progress":
			p.progress.Add(1)
			news = !runs[m.RunID]
			runs[m.RunID] = true
		case "gap":
			p.lost.Add(m.Lost)
		case "hello":
		default:
			p.kept.Add(1)
			p.newest.Store(m.Sequence)
		}
		if !news {
			continue
		}
		select {
		case due <- struct{}{}:
		default:
		}
	}
}

// look asks for what the overview shows, 150 ms after something has happened, as the page does.
func (p *browser) look(ctx context.Context, s *served, due <-chan struct{}, size *atomic.Int64) error {
	for range due {
		if err := errors.Join(rest(ctx, 150*time.Millisecond), s.call(ctx, http.MethodGet, "/api/admin/fleet", nil)); err != nil {
			return err
		}
		var all json.RawMessage
		if err := s.call(ctx, http.MethodGet, "/api/admin/tables", &all); err != nil {
			return err
		}
		size.Store(int64(len(all)))
		p.looks.Add(1)
	}
	return nil
}

// looked waits until all pages have the same newest event and have looked so often, and says how many messages there were.
func (b *browsers) looked(ctx context.Context, times int64) (string, error) {
	for {
		select {
		case err := <-b.failed:
			return "", err
		default:
		}
		first := b.all[0].newest.Load()
		same, kept, progress, lost, looks := true, int64(0), int64(0), int64(0), int64(0)
		for _, p := range b.all {
			same = same && p.newest.Load() == first && p.looks.Load() >= times
			kept, progress, lost, looks = kept+p.kept.Load(), progress+p.progress.Load(), lost+p.lost.Load(), looks+p.looks.Load()
		}
		if same {
			return fmt.Sprintf("%d events and %d messages of progress delivered, %d lost, %d looks at all tables", kept, progress, lost, looks), nil
		}
		if err := rest(ctx, 10*time.Millisecond); err != nil {
			return "", err
		}
	}
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
