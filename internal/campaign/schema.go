package campaign

import _ "embed" // for the schema

//go:generate go test -run ^TestSchema$ -update .

// Schema is the JSON Schema of the file format, for editors. It says less than
// Parse checks; a test holds that it is what the types above say.
//
//go:embed campaign.schema.json
var Schema string
