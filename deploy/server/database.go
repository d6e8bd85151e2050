package main

import (
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/headers"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"
)

// clusterName is the name of a single cluster in Temporal's own examples.
const clusterName = "active"

// versionRecord is the content of the file DATABASE.json: Temporal's SQLite schema has no version
// of its own and is never migrated.
type versionRecord struct {
	Temporal string    `json:"temporal"` // version of the server that made the database
	Made     time.Time `json:"made"`
}

// lockDatabase makes this process the only one that serves the database, until the returned file
// is closed. It takes a POSIX lock on DATABASE.lock, so anyone who asks the kernel about the lock
// (F_GETLK) gets this process's id. Closing any descriptor of the file loses such a lock: this
// program opens the file nowhere else.
func lockDatabase(database string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(database), 0o700); err != nil {
		return nil, fmt.Errorf("make the database's folder: %w", err)
	}
	path := database + ".lock"
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the database: %w", err)
	}
	wanted := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(file.Fd(), unix.F_SETLK, &wanted)
	if err == nil {
		return file, nil
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = fmt.Errorf("%w: another process serves the database already", errBadInput)
	}
	return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
}

// prepareDatabase makes the database if it does not exist, refuses one of another version, and
// makes sure that the namespace exists.
func prepareDatabase(o options) error {
	_, err := os.Stat(o.database)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = makeDatabase(o)
	case err == nil:
		if err = checkVersion(o.database); err == nil {
			err = checkWhole(o.database)
		}
	}
	if err != nil {
		return err
	}
	namespace, err := sqliteschema.NewNamespaceConfig(clusterName, o.namespace, false, nil)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", o.namespace, err)
	}
	namespace.Detail.Config.Retention = durationpb.New(o.retention)
	if err := sqliteschema.CreateNamespaces(sqlConfig(o.database, "WAL", o.synchronous), namespace); err != nil {
		return fmt.Errorf("make namespace %s in %s: %w", o.namespace, o.database, err)
	}
	return dropIndexes(o.database)
}

// makeDatabase creates the schema in a file beside the final path and renames that file, so a
// crash leaves either no database or a complete one. The version is recorded first. In WAL mode,
// part of the schema would be in a file that keeps the old name.
func makeDatabase(o options) error {
	fresh := o.database + ".new"
	for _, suffix := range []string{"", "-journal"} {
		if err := os.Remove(fresh + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a half-made database: %w", err)
		}
	}
	if err := sqliteschema.SetupSchema(sqlConfig(fresh, "DELETE", o.synchronous)); err != nil {
		return fmt.Errorf("set up the schema in %s: %w", fresh, err)
	}
	text, err := json.Marshal(versionRecord{Temporal: headers.ServerVersion, Made: time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.database+".json", append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("record the server's version: %w", err)
	}
	if err := os.Rename(fresh, o.database); err != nil { //nolint:forbidigo // SQLite has written it
		return fmt.Errorf("finish the database: %w", err)
	}
	return nil
}

// checkWhole refuses a database that was cut off: the server would start with it and not answer.
// A file that is shorter than its header says may still be complete together with its write-ahead
// log, so SQLite is asked in that case: https://www.sqlite.org/fileformat2.html (section 1.3, the
// page size at offset 16 and the size in pages at 28) and
// https://www.sqlite.org/pragma.html#pragma_quick_check.
func checkWhole(database string) error {
	file, err := os.Open(database)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	header := make([]byte, 100)
	_, err = io.ReadFull(file, header)
	page, pages := int64(binary.BigEndian.Uint16(header[16:])), int64(binary.BigEndian.Uint32(header[28:]))
	if page == 1 {
		page = 1 << 16
	}
	if err == nil && string(header[:16]) == "SQLite format 3\x00" && info.Size() >= page*pages {
		return nil
	}
	found := quickCheck(database)
	if found == "ok" {
		return nil
	}
	return fmt.Errorf("%w: %s is damaged (%d bytes of %d; SQLite says: %s): put a copy of it back, with its -wal, or move all %s* away: "+
		"`heliotrope run` then goes on with what the campaigns' data folders hold", errBadInput, database, info.Size(), page*pages, found, filepath.Base(database))
}

// quickCheck returns SQLite's verdict on a database: "ok", or what is wrong.
func quickCheck(database string) string {
	db, err := sql.Open("sqlite", database)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = db.Close() }()
	var said string
	if err := db.QueryRow("PRAGMA quick_check(1)").Scan(&said); err != nil {
		return err.Error()
	}
	first, _, _ := strings.Cut(said, "\n")
	return first
}

// unwantedIndexes selects the indexes of the table of workflows, except those by which workflows
// are found: newest first, and by what users type into the Web UI. Temporal makes 61 indexes.
const unwantedIndexes = `SELECT 'DROP INDEX "' || name || '";' AS drop_it FROM sqlite_schema
	WHERE type = 'index' AND tbl_name = 'executions_visibility' AND sql IS NOT NULL
	AND name NOT IN ('default_idx', 'by_workflow_id', 'by_workflow_type', 'by_status')`

// dropIndexes drops the unwanted indexes, also from a database that an older program made. Each
// would have an entry for each workflow, written when the workflow begins and ends, and most
// would be written at each change of a search attribute. Without them, queries by a search
// attribute scan all workflows of the namespace.
func dropIndexes(database string) (err error) {
	db, err := sql.Open("sqlite", database)
	if err != nil {
		return fmt.Errorf("open %s: %w", database, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var drop sql.NullString
	if err := db.QueryRow("SELECT group_concat(drop_it, ' ') FROM (" + unwantedIndexes + ")").Scan(&drop); err != nil {
		return fmt.Errorf("list the indexes of %s: %w", database, err)
	}
	if !drop.Valid {
		return nil
	}
	if _, err := db.Exec("BEGIN; " + drop.String + " COMMIT;"); err != nil {
		return fmt.Errorf("drop indexes of %s: %w", database, err)
	}
	return nil
}

// checkVersion refuses a database that another version of the server made.
func checkVersion(database string) error {
	path := database + ".json"
	text, err := os.ReadFile(path)
	var record versionRecord
	if err == nil {
		err = json.Unmarshal(text, &record)
	}
	if err == nil && record.Temporal == "" {
		err = fmt.Errorf("%s names no version", path)
	}
	if err != nil {
		return fmt.Errorf("%w: %s is there, but not the record of the server version that made it (%w); use another --database", errBadInput, database, err)
	}
	if record.Temporal != headers.ServerVersion {
		return fmt.Errorf("%w: %s was made by Temporal server %s, and this is %s, which cannot convert it: "+
			"use another --database, or finish its campaigns with the heliotrope-server that made it",
			errBadInput, database, record.Temporal, headers.ServerVersion)
	}
	return nil
}

// sqlConfig returns the settings with which Temporal opens the file.
func sqlConfig(path, journalMode, synchronous string) *config.SQL {
	return &config.SQL{
		PluginName:   sqlite.PluginName,
		DatabaseName: path,
		ConnectAttributes: map[string]string{
			"mode":         "rwc",
			"journal_mode": journalMode,
			"synchronous":  synchronous,
		},
	}
}
