package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"tablekeeper/storage/bucket"
)

// probe tries on a bucket everything that backups need, with objects of its own, which it removes.
type probe struct {
	bucket bucket.Bucket
	now    func() time.Time
	key    string
	large  int64 // bytes of the object that is sent in parts; 0: not tried
	sent   bucket.Info
}

// probeStep is one ability and how it went.
type probeStep struct {
	Name string
	Err  error
	Took time.Duration
}

// probeText is what the small object holds.
const probeText = "tablekeeper probes this bucket\n"

// probeParts is more than the smallest part that S3 stores take (5 MiB), so that an upload of unknown length has several.
const probeParts = 17 << 20

// maxSkew is the difference of clocks at which S3 begins to refuse requests, with room to spare.
const maxSkew = 5 * time.Minute

func newProbe(b bucket.Bucket, now func() time.Time) *probe {
	return &probe{bucket: b, now: now, key: "tablekeeper-probe/" + strings.ToLower(rand.Text()[:12])}
}

// run tries every ability. If the first fails, the others would only say the same.
func (p *probe) run(ctx context.Context) []probeStep {
	all := []struct {
		name string
		try  func(context.Context) error
	}{
		{"put", p.put}, {"get", p.get}, {"range", p.ranged}, {"list", p.list}, {"tags", p.tags},
		{"conditional put", p.conditional}, {"multipart", p.multipart}, {"clock", p.clock}, {"delete", p.remove},
	}
	var steps []probeStep
	for i, s := range all {
		if s.name == "multipart" && p.large == 0 {
			continue
		}
		start := p.now()
		err := s.try(ctx)
		steps = append(steps, probeStep{s.name, err, p.now().Sub(start)})
		if i == 0 && err != nil {
			break
		}
	}
	// Whatever happened, nothing of ours stays.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthPatience)
	defer cancel()
	_ = errors.Join(p.bucket.Delete(clean, p.key), p.bucket.Delete(clean, p.key+"-large"))
	return steps
}

func (p *probe) put(ctx context.Context) (err error) {
	p.sent, err = bucket.Put(ctx, p.bucket, p.key, strings.NewReader(probeText), bucket.PutOptions{SizeHint: int64(len(probeText))})
	return err
}

func (p *probe) get(ctx context.Context) error { return p.expect(ctx, 0, -1, probeText) }

func (p *probe) ranged(ctx context.Context) error {
	return errors.Join(p.expect(ctx, 12, 6, probeText[12:18]), p.expect(ctx, -7, 0, probeText[len(probeText)-7:]))
}

func (p *probe) expect(ctx context.Context, off, n int64, want string) error {
	body, err := p.bucket.Get(ctx, p.key, off, n)
	if err != nil {
		return err
	}
	defer body.Close()
	got, err := io.ReadAll(io.LimitReader(body, 1<<20))
	if err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%w: asked for bytes %d+%d of what was sent, got %d others", bucket.ErrBody, off, n, len(got))
	}
	return nil
}

func (p *probe) list(ctx context.Context) error {
	for info, err := range p.bucket.List(ctx, p.key, "") {
		if err != nil {
			return err
		}
		if info.Key == p.key {
			return nil
		}
	}
	return fmt.Errorf("%w: the listing lacks what was sent", bucket.ErrNotStored)
}

func (p *probe) tags(ctx context.Context) error {
	if err := p.bucket.SetTags(ctx, p.key, map[string]string{"tablekeeper-probe": "yes"}); err != nil {
		return err
	}
	tags, err := p.bucket.Tags(ctx, p.key)
	if err == nil && tags["tablekeeper-probe"] != "yes" {
		err = fmt.Errorf("%w: the tag that was set is not there; retention needs tags", bucket.ErrNotStored)
	}
	return err
}

// conditional wants a second put of the same key refused: without that, two tablekeepers could overwrite each other's backups.
func (p *probe) conditional(ctx context.Context) error {
	_, err := p.bucket.Put(ctx, p.key, strings.NewReader("x"), bucket.PutOptions{IfAbsent: true})
	if errors.Is(err, bucket.ErrExists) {
		return nil
	}
	if err == nil {
		return errors.New("the store overwrote an object that it was told not to")
	}
	return err
}

func (p *probe) multipart(ctx context.Context) error {
	key := p.key + "-large"
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	var parts []io.Reader
	for range p.large / int64(len(block)) {
		parts = append(parts, bytes.NewReader(block))
	}
	// Not a file or a byte slice: the length is unknown until the end, as that of a backup is.
	if _, err := bucket.Put(ctx, p.bucket, key, io.MultiReader(parts...), bucket.PutOptions{}); err != nil {
		return err
	}
	return p.bucket.Delete(ctx, key)
}

func (p *probe) clock(ctx context.Context) error {
	info, err := p.bucket.Head(ctx, p.key)
	if err != nil {
		return err
	}
	if info.Modified.IsZero() {
		return nil
	}
	if skew := p.now().Sub(info.Modified); skew.Abs() > maxSkew {
		return fmt.Errorf("the store's clock and this one differ by %s: synchronise them", skew.Abs().Round(time.Second))
	}
	return nil
}

func (p *probe) remove(ctx context.Context) error {
	if err := p.bucket.Delete(ctx, p.key); err != nil {
		return err
	}
	if _, err := p.bucket.Head(ctx, p.key); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(errors.New("the object is still there after it was deleted"), err)
	}
	return nil
}
