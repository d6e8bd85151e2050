package campaign

import _ "embed" // for the schema

//go:generate go test -run ^TestSchema$ -update .

// Schema is the JSON Schema of the file format, for editors. It is less strict than Parse; a test
// checks that it agrees with the types in this package.
//
//go:embed campaign.schema.json
var Schema string
