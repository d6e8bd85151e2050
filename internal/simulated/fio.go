package simulated

// fioResult is the sum of a model's I/Os.
type fioResult struct {
	Read, Write fioDirection
	Error       int // the errno of the I/O that ended it
}

// fioDirection is fio's section on reads or on writes, as far as it says what
// was done and not how fast.
type fioDirection struct {
	IOBytes  int64 `json:"io_bytes"`
	TotalIOs int64 `json:"total_ios"`
}

// document has the shape of fio's own JSON.
func (r *fioResult) document() any {
	type job struct {
		Name  string       `json:"jobname"`
		Error int          `json:"error"`
		Read  fioDirection `json:"read"`
		Write fioDirection `json:"write"`
	}
	return struct {
		Version string `json:"fio version"`
		Jobs    []job  `json:"jobs"`
	}{"fio-" + version, []job{{Name: "load", Error: r.Error, Read: r.Read, Write: r.Write}}}
}
