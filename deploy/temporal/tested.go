package temporal

// TestedServers are the versions of Temporal's server that the tests run on: the embedded one's. Other versions were not
// tried.
func TestedServers() []string { return []string{"1.32.1"} }
