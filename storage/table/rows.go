package table

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// tables lists the SQL tables, virtual and shadow ones included, by name.
func (c *conn) tables(ctx context.Context) ([]string, error) {
	var names []string
	err := c.list(ctx, &names, "SELECT json_group_array(CAST(name AS TEXT)) FROM (SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name)")
	return names, err
}

// rows counts the rows of each SQL table, and reads them all if asked to.
func (r *CheckReport) rows(ctx context.Context, c *conn, opts CheckOptions) error {
	names, err := c.tables(ctx)
	if err != nil {
		return err
	}
	for i, name := range names {
		if err := r.one(ctx, c, name, opts); err != nil {
			return err
		}
		opts.Progress("count", int64(i+1), int64(len(names)))
	}
	return ctx.Err()
}

func (r *CheckReport) one(ctx context.Context, c *conn, name string, opts CheckOptions) error {
	var n int64
	if counted, ok := r.proved.Rows[name]; ok && r.proved.Open[name] == "" {
		r.Rows[name] = counted // and read, each of them
		return nil
	}
	err := c.row(ctx, "SELECT count(*) FROM "+quote(name), &n)
	if err == nil {
		r.Rows[name] = n
		if opts.Traverse {
			err = r.traverse(ctx, c, name, n)
		}
	}
	return r.excuse(name, err)
}

// excuse notes what needs something that is not here, notes damage, and returns any other error.
func (r *CheckReport) excuse(what string, err error) error {
	if isPlainError(err) {
		r.Unsupported = append(r.Unsupported, fmt.Sprintf("%s: not read: %v", what, err))
		return nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return r.take(err)
}

// traverse reads every stored column of every row of an SQL table of n rows, then every entry of its indexes.
func (r *CheckReport) traverse(ctx context.Context, c *conn, name string, n int64) error {
	columns, err := c.names(ctx, "SELECT name FROM pragma_table_xinfo(?) WHERE hidden IN (0, 3)", name)
	if err != nil {
		return err
	}
	if err := r.scan(ctx, c, name, "NOT INDEXED", columns, n); err != nil {
		return err
	}
	indexes, err := c.names(ctx, "SELECT name FROM pragma_index_list(?) WHERE NOT partial AND origin <> 'pk'", name)
	if err != nil {
		return err
	}
	for _, index := range indexes {
		columns, err := c.names(ctx, "SELECT name FROM pragma_index_xinfo(?) WHERE key AND cid >= 0", index)
		if err != nil {
			return err
		}
		if len(columns) == 0 {
			continue // of expressions alone: integrity_check has been through it
		}
		if err := r.excuse("index "+index, r.scan(ctx, c, name, "INDEXED BY "+quote(index), columns, n)); err != nil {
			return err
		}
	}
	return nil
}

// scan reads columns along one b-tree. Comparing bytes, for the maximum, needs every byte; a length would not.
func (r *CheckReport) scan(ctx context.Context, c *conn, name, along string, columns []string, want int64) error {
	var query strings.Builder
	query.WriteString("SELECT count(*)")
	for _, column := range columns {
		fmt.Fprintf(&query, ", max(%s COLLATE BINARY) IS NULL", quote(column))
	}
	fmt.Fprintf(&query, " FROM %s %s", quote(name), along)
	var n int64
	dest := make([]any, 1+len(columns))
	dest[0] = &n
	for i := range columns {
		dest[i+1] = new(any)
	}
	if err := c.row(ctx, query.String(), dest...); err != nil {
		return err
	}
	if n != want {
		r.Problems = append(r.Problems, fmt.Sprintf("%s has %d rows when counted, %d when read (%s)", name, want, n, along))
	}
	return nil
}

func (c *conn) names(ctx context.Context, query string, arg string) ([]string, error) {
	var names []string
	err := c.list(ctx, &names, "SELECT json_group_array(name) FROM ("+query+")", arg)
	return names, err
}

// sizeOf is the size of a file that may be missing.
func sizeOf(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
