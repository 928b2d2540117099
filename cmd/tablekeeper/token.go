package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/infra/admin"
)

func newToken(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Say who may use the dashboard and the API: add, list, revoke",
		Long: `A token is what people sign in with and programs send. Its role says what it may: operator everything, viewer look, agent use the stores
under /api/v1. Only its hash is kept, in admin.db in the state folder. What is changed here counts at once, also for a running service.`,
		Example: `  tablekeeper token add --role viewer
  tablekeeper token add alice --role operator
  tablekeeper token revoke alice`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenAdd(p), newTokenList(p), newTokenRevoke(p))
	return cmd
}

func newTokenAdd(p *program) *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use: "add [NAME]", Short: "Make a token and show it, this once", Example: "  tablekeeper token add alice --role operator", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := role
			if len(args) > 0 {
				name = args[0]
			}
			return p.withKeys(cmd.Context(), func(cfg settings.Config, keys *admin.Keys) error {
				return p.addToken(cmd.Context(), cfg, keys, name, role)
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", string(admin.Viewer), "what it may: `ROLE` viewer, operator or agent")
	return cmd
}

func (p *program) addToken(ctx context.Context, cfg settings.Config, keys *admin.Keys, name, role string) error {
	r, err := admin.ParseRole(role)
	if err != nil {
		return usage("--role viewer", "%w", err)
	}
	secret, err := keys.AddToken(ctx, name, r)
	switch {
	case errors.Is(err, admin.ErrNameTaken):
		return usage("give another name, or tablekeeper token revoke "+name, "%w", err)
	case errors.Is(err, admin.ErrBadName):
		return usage("tablekeeper token add alice", "%w", err)
	case err != nil:
		return err
	}
	link := signInLink(cfg, cfg.Listen, secret)
	if p.json {
		return p.screen.Document(map[string]string{"name": name, "role": role, "token": secret, "link": link})
	}
	p.screen.Line("%s", secret)
	p.screen.Note("Role: %s. It is shown this once. It is also a link: %s", role, link)
	return nil
}

func newTokenList(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tokens", Example: "  tablekeeper token list --json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withKeys(cmd.Context(), func(_ settings.Config, keys *admin.Keys) error {
				tokens, err := keys.Tokens(cmd.Context())
				if err != nil {
					return err
				}
				return p.showTokens(tokens)
			})
		},
	}
}

func (p *program) showTokens(tokens []admin.Token) error {
	if p.json {
		return p.screen.Document(map[string]any{"tokens": tokens})
	}
	if len(tokens) == 0 {
		p.screen.Note("No tokens. The first start of the service makes one: tablekeeper serve")
		return nil
	}
	rows := make([][]screen.Cell, len(tokens))
	for i, t := range tokens {
		rows[i] = []screen.Cell{{Text: t.Name}, {Text: string(t.Role)}, {Text: screen.Ago(t.Created, p.now())}, {Text: screen.Ago(t.Used, p.now())}}
	}
	p.screen.Table([]string{"token", "role", "made", "used"}, rows)
	return nil
}

func newTokenRevoke(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "Remove a token, and end the sessions begun with it", Example: "  tablekeeper token revoke alice", Args: one("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withKeys(cmd.Context(), func(_ settings.Config, keys *admin.Keys) error {
				err := keys.RevokeToken(cmd.Context(), args[0])
				if errors.Is(err, fs.ErrNotExist) {
					return fail(exitNotFound, "tablekeeper token list", "no token is named %q", args[0])
				}
				if err == nil && p.json {
					return p.screen.Document(map[string]string{"revoked": args[0]})
				}
				if err == nil {
					p.screen.Note("Revoked %s.", args[0])
				}
				return err
			})
		},
	}
}

// withKeys opens the tokens of the state folder.
func (p *program) withKeys(ctx context.Context, use func(settings.Config, *admin.Keys) error) (err error) {
	cfg, err := p.configure()
	if err != nil {
		return err
	}
	if cfg.State == "" {
		return usage("--state FOLDER, or --tables FOLDER", "which service? No state folder is configured")
	}
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	keys, err := admin.OpenKeys(ctx, cfg.State, p.now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	return use(cfg, keys)
}

// signInLink is the dashboard's address with a token. What is behind the # does not leave the browser.
func signInLink(cfg settings.Config, address, secret string) string {
	return dashboardURL(cfg, address) + "/#token=" + url.QueryEscape(secret)
}

func dashboardURL(cfg settings.Config, address string) string {
	if cfg.PublicURL != "" {
		return strings.TrimRight(cfg.PublicURL, "/")
	}
	scheme := "http"
	if cfg.TLS.CertificateFile != "" {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return scheme + "://" + settings.DefaultListen
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
