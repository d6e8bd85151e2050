package activities

// LogKeys adds the machine to the target's keys.
func (l LinkInput) LogKeys() []any { return append(l.Target.LogKeys(), "host", l.Machine) }
