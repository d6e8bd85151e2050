package main

import (
	"errors"
	"fmt"
	"io"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	v12 "go.temporal.io/server/schema/postgresql/v12"
	"go.temporal.io/server/tools/common/schema"
	sqltool "go.temporal.io/server/tools/sql"
)

// noVersion is the version that Temporal's own tool gives to a schema that has only the tables
// for its version.
const noVersion = "0.0"

// updateSchemas brings the tables of both PostgreSQL databases that the configuration names up to
// this program's version, and prints a line for each. It continues where an earlier run was
// interrupted, and does not change a database that is up to date. The databases themselves must
// exist.
func updateSchemas(path string, out io.Writer) error {
	described, err := loadConfig(path)
	if err != nil {
		return err
	}
	stores := described.Persistence
	for _, one := range []struct{ store, schema, want string }{
		{stores.DefaultStore, "postgresql/v12/temporal", v12.Version},
		{stores.VisibilityStore, "postgresql/v12/visibility", v12.VisibilityVersion},
	} {
		database := stores.DataStores[one.store].SQL
		if database == nil || database.PluginName != postgresql.PluginName && database.PluginName != postgresql.PluginNamePGX {
			return fmt.Errorf("%w: %s: datastore %q is not of the plug-in %s", errBadInput, path, one.store, postgresql.PluginNamePGX)
		}
		before, after, err := updateSchema(database, one.schema)
		if err != nil {
			return fmt.Errorf("the schema of database %s at %s: %w", database.DatabaseName, database.ConnectAddr, err)
		}
		fmt.Fprintf(out, "database %s: %s\n", database.DatabaseName, whatBecame(before, after, one.want))
	}
	return nil
}

// whatBecame describes what was done to a schema.
func whatBecame(before, after, want string) string {
	switch {
	case before == after && after == want:
		return "schema " + after + ", as it was"
	case after != want:
		return "schema " + after + ", which is newer than this program's, " + want + ": it was left alone"
	case before == noVersion:
		return "schema " + after + ", made"
	}
	return "schema " + after + ", brought up from " + before
}

// updateSchema returns the versions of a database's schema before and after.
func updateSchema(database *config.SQL, name string) (before, after string, err error) {
	_, quiet := newLogger("error")
	connection, err := sqltool.NewConnection(database, quiet)
	if err != nil {
		return "", "", err
	}
	defer connection.Close()
	if err := connection.CreateSchemaVersionTables(); err != nil {
		return "", "", err
	}
	if before, err = connection.ReadSchemaVersion(); err != nil {
		before = noVersion // the table exists and is empty
	}
	err = errors.Join(
		schema.NewSetupSchemaTask(connection, &schema.SetupConfig{InitialVersion: noVersion}, log.NewNoopLogger()).Run(),
		schema.NewUpdateSchemaTask(connection, &schema.UpdateConfig{SchemaName: name}, log.NewNoopLogger()).Run())
	if err != nil {
		return "", "", err
	}
	after, err = connection.ReadSchemaVersion()
	return before, after, err
}
