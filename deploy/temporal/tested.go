package temporal

// TestedServers returns the versions of Temporal's server on which the tests run: that of the
// embedded server. Other versions were not tried.
func TestedServers() []string { return []string{"1.32.1"} }
