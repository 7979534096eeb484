package caddysession

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/spf13/cobra"
)

func keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen",
		Short: "Makes a secret for the option keys",
		Long: `
Writes a new secret for the option keys: 32 random bytes in base64url. Put it
into a file or the environment of Caddy, and {file.PATH} or {env.NAME} into the
config.`,
		Args: takes(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret := make([]byte, 32)
			rand.Read(secret)
			_, err := fmt.Fprintln(cmd.OutOrStdout(), base64.RawURLEncoding.EncodeToString(secret))
			return err
		},
	}
}
