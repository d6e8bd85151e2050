package activities

// LogKeys name the machine too.
func (l LinkInput) LogKeys() []any { return append(l.Target.LogKeys(), "host", l.Machine) }
