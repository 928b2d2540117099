package stores

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ChannelsSchema is the SQL of the table agent_channels: the channels and who listens to them.
const ChannelsSchema = `
CREATE TABLE IF NOT EXISTS channels (
  name    TEXT PRIMARY KEY,
  topic   TEXT NOT NULL,
  creator TEXT NOT NULL,
  created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subscriptions (
  channel TEXT NOT NULL REFERENCES channels (name) ON DELETE CASCADE,
  agent   TEXT NOT NULL,
  cursor  TEXT NOT NULL,
  since   INTEGER NOT NULL,
  PRIMARY KEY (channel, agent)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS subscriptions_agent ON subscriptions (agent);
`

// ChannelHistorySchema is the SQL of the table channel_history: what was published.
const ChannelHistorySchema = `
CREATE TABLE IF NOT EXISTS posts (
  id        TEXT PRIMARY KEY,
  channel   TEXT NOT NULL,
  sender    TEXT NOT NULL,
  key       TEXT NOT NULL,
  body      TEXT NOT NULL,
  published INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS posts_channel ON posts (channel, id);
CREATE UNIQUE INDEX IF NOT EXISTS posts_key ON posts (channel, sender, key) WHERE key <> '';
`

// Channel is a named stream of posts.
type Channel struct {
	Name    string    `json:"name"`
	Topic   string    `json:"topic,omitempty"`
	Creator string    `json:"creator"`
	Created time.Time `json:"created"`
}

// Post is one message of a channel. Key, where the sender chose one, makes a repeated Publish return the first post.
type Post struct {
	ID        string    `json:"id"`
	Channel   string    `json:"channel"`
	From      string    `json:"from"`
	Key       string    `json:"key,omitempty"`
	Body      string    `json:"body"`
	Published time.Time `json:"published"`
}

// Channels keeps channels and subscriptions in one table and posts in another. A subscription holds the agent's cursor:
// ReadOn returns what came after it, Advance moves it, so that a reader that dies in between reads again.
type Channels struct {
	channels, posts Table
	now             func() time.Time
}

// NewChannels opens the store on the tables agent_channels and channel_history.
func NewChannels(ctx context.Context, channels, history Table, now func() time.Time) (*Channels, error) {
	if err := errors.Join(define(ctx, channels, ChannelsSchema), define(ctx, history, ChannelHistorySchema)); err != nil {
		return nil, fmt.Errorf("open channels: %w", err)
	}
	return &Channels{channels: channels, posts: history, now: now}, nil
}

// Create makes a channel; ErrConflict if its name is taken.
func (c *Channels) Create(ctx context.Context, ch Channel) (Channel, error) {
	if err := checkNames("name", ch.Name, "creator", ch.Creator); err != nil {
		return Channel{}, err
	}
	if err := checkBody("topic", ch.Topic); err != nil {
		return Channel{}, err
	}
	ch.Created = c.now().UTC().Truncate(time.Millisecond)
	err := c.channels.Write(ctx, func(tx *sql.Tx) error {
		made, err := changed(tx.ExecContext(ctx, `INSERT INTO channels (name, topic, creator, created) VALUES (?,?,?,?) ON CONFLICT DO NOTHING`,
			ch.Name, ch.Topic, ch.Creator, millis(ch.Created)))
		if err == nil && !made {
			err = fmt.Errorf("%w: channel %q exists", ErrConflict, ch.Name)
		}
		return err
	})
	return ch, err
}

// List returns the channels whose names sort after a name, in order.
func (c *Channels) List(ctx context.Context, after string, limit int) ([]Channel, error) {
	var channels []Channel
	err := c.channels.Read(ctx, func(tx *sql.Tx) (err error) {
		channels, err = collect(ctx, tx, scanChannel, `SELECT name, topic, creator, created FROM channels WHERE name > ? ORDER BY name LIMIT ?`,
			after, page(limit))
		return err
	})
	return channels, err
}

// Subscribe lets an agent listen: from what is published next, or from the beginning. A subscription that exists keeps its
// cursor.
func (c *Channels) Subscribe(ctx context.Context, channel, agent string, fromBeginning bool) error {
	if err := checkNames("channel", channel, "agent", agent); err != nil {
		return err
	}
	var cursor sql.NullString
	if !fromBeginning {
		err := c.posts.Read(ctx, func(tx *sql.Tx) error {
			return tx.QueryRowContext(ctx, `SELECT max(id) FROM posts`).Scan(&cursor)
		})
		if err != nil {
			return err
		}
	}
	return c.channels.Write(ctx, func(tx *sql.Tx) error {
		if err := requireChannel(ctx, tx, channel); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO subscriptions (channel, agent, cursor, since) VALUES (?,?,?,?) ON CONFLICT DO NOTHING`,
			channel, agent, cursor.String, millis(c.now()))
		return err
	})
}

// Unsubscribe ends a subscription and forgets its cursor.
func (c *Channels) Unsubscribe(ctx context.Context, channel, agent string) error {
	return c.channels.Write(ctx, func(tx *sql.Tx) error {
		found, err := changed(tx.ExecContext(ctx, `DELETE FROM subscriptions WHERE channel = ? AND agent = ?`, channel, agent))
		if err == nil && !found {
			err = fmt.Errorf("subscription of %q to %q: %w", agent, channel, ErrNotFound)
		}
		return err
	})
}

// Publish adds a post to a channel.
func (c *Channels) Publish(ctx context.Context, p Post) (Post, error) {
	if err := checkNames("channel", p.Channel, "from", p.From); err != nil {
		return Post{}, err
	}
	if err := checkBody("body", p.Key+p.Body); err != nil {
		return Post{}, err
	}
	if err := c.channels.Read(ctx, func(tx *sql.Tx) error { return requireChannel(ctx, tx, p.Channel) }); err != nil {
		return Post{}, err
	}
	var post Post
	err := c.posts.Write(ctx, func(tx *sql.Tx) (err error) {
		post, err = c.post(ctx, tx, p)
		return err
	})
	return post, err
}

// post inserts p, or returns the post that has its key.
func (c *Channels) post(ctx context.Context, tx *sql.Tx, p Post) (Post, error) {
	if p.Key != "" {
		first, err := scanPost(tx.QueryRowContext(ctx, `SELECT `+postColumns+` FROM posts WHERE channel = ? AND sender = ? AND key = ?`,
			p.Channel, p.From, p.Key).Scan)
		if !errors.Is(err, sql.ErrNoRows) {
			return first, err
		}
	}
	var err error
	if p.ID, err = nextID(ctx, tx, `SELECT max(id) FROM posts`); err != nil {
		return Post{}, err
	}
	p.Published = c.now().UTC().Truncate(time.Millisecond)
	_, err = tx.ExecContext(ctx, `INSERT INTO posts (`+postColumns+`) VALUES (?,?,?,?,?,?)`, p.ID, p.Channel, p.From, p.Key, p.Body, millis(p.Published))
	return p, err
}

const postColumns = `id, channel, sender, key, body, published`

// Read returns the posts of a channel after a post's id, oldest first; "" is the beginning.
func (c *Channels) Read(ctx context.Context, channel, after string, limit int) ([]Post, error) {
	if err := checkCursor(after); err != nil {
		return nil, err
	}
	var posts []Post
	err := c.posts.Read(ctx, func(tx *sql.Tx) (err error) {
		posts, err = collect(ctx, tx, scanPost, `SELECT `+postColumns+` FROM posts WHERE channel = ? AND id > ? ORDER BY id LIMIT ?`,
			channel, after, page(limit))
		return err
	})
	return posts, err
}

// ReadOn returns what a subscriber has not yet read. Advance says that it did.
func (c *Channels) ReadOn(ctx context.Context, channel, agent string, limit int) ([]Post, error) {
	var cursor string
	err := c.channels.Read(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT cursor FROM subscriptions WHERE channel = ? AND agent = ?`, channel, agent).Scan(&cursor)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("subscription of %q to %q: %w", agent, channel, ErrNotFound)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.Read(ctx, channel, cursor, limit)
}

// Advance moves a subscriber's cursor to the post it read last; it never moves back.
func (c *Channels) Advance(ctx context.Context, channel, agent, id string) error {
	if id == "" {
		return fmt.Errorf("%w: the id of the post read last is missing", ErrInvalid)
	}
	if err := checkCursor(id); err != nil {
		return err
	}
	return c.channels.Write(ctx, func(tx *sql.Tx) error {
		found, err := changed(tx.ExecContext(ctx, `UPDATE subscriptions SET cursor = max(cursor, ?) WHERE channel = ? AND agent = ?`, id, channel, agent))
		if err == nil && !found {
			err = fmt.Errorf("subscription of %q to %q: %w", agent, channel, ErrNotFound)
		}
		return err
	})
}

// Purge removes posts published before a time and returns how many.
func (c *Channels) Purge(ctx context.Context, before time.Time) (int, error) {
	return purge(ctx, c.posts, `DELETE FROM posts WHERE published < ?`, millis(before))
}

func requireChannel(ctx context.Context, tx *sql.Tx, name string) error {
	var there bool
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM channels WHERE name = ?)`, name).Scan(&there); err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("channel %.140q: %w", name, ErrNotFound)
	}
	return nil
}

func scanChannel(scan func(...any) error) (ch Channel, err error) {
	var created int64
	err = scan(&ch.Name, &ch.Topic, &ch.Creator, &created)
	ch.Created = moment(created)
	return ch, err
}

func scanPost(scan func(...any) error) (p Post, err error) {
	var published int64
	err = scan(&p.ID, &p.Channel, &p.From, &p.Key, &p.Body, &published)
	p.Published = moment(published)
	return p, err
}
