// Command build bundles the dashboard's sources into its assets.
package main

import (
	"fmt"
	"os"

	"tablekeeper/infra/admin/web/bundle"
)

func main() {
	if err := bundle.Write(".", "dist"); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}
