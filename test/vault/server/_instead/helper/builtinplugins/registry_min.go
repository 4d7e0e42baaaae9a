//go:build minimal

package builtinplugins

import (
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	aws "github.com/hashicorp/vault/builtin/credential/aws"
	"github.com/hashicorp/vault/plugins/database/postgresql"
)

// The smallest Vault has none of these: the tests log in with both, and lease users of a database.
func extendAddonPlugins(reg *registry) {
	reg.credentialBackends["aws"] = credentialBackend{Factory: aws.Factory}
	reg.credentialBackends["kubernetes"] = credentialBackend{Factory: kubernetes.Factory}
	reg.databasePlugins["postgresql-database-plugin"] = databasePlugin{Factory: postgresql.New}
}
