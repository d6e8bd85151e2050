package simulated

// fioResult is the sum of the model's I/Os.
type fioResult struct {
	Read, Write fioDirection
	Error       int // errno of the I/O that ended the load
}

// fioDirection is fio's section on reads or on writes, with how much was done but not how fast.
type fioDirection struct {
	IOBytes  int64 `json:"io_bytes"`
	TotalIOs int64 `json:"total_ios"`
}

// document returns the result in the form of fio's own JSON.
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
