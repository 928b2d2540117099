package screen

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Table writes rows under a header to standard output. A header that ends in > stands over a column of figures, aligned right.
func (s *Screen) Table(header []string, rows [][]Cell) {
	if s.JSON {
		return
	}
	t := table.NewWriter()
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	head := make(table.Row, len(header))
	var columns []table.ColumnConfig
	for i, h := range header {
		name, figures := strings.CutSuffix(h, ">")
		head[i] = Cell{Text: strings.ToUpper(name), Tone: Dim}.render(s.colorOut)
		if figures {
			columns = append(columns, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.AppendHeader(head)
	t.SetColumnConfigs(columns)
	for _, cells := range rows {
		t.AppendRow(s.row(cells))
	}
	s.write(s.out, t.Render())
}

func (s *Screen) row(cells []Cell) table.Row {
	row := make(table.Row, len(cells))
	for i, c := range cells {
		c.Text = strings.Join(strings.Fields(c.Text), " ")
		row[i] = c.render(s.colorOut)
	}
	return row
}
