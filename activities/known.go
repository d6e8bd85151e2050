package activities

import (
	"time"

	"heliotrope/internal/trial"
)

// Known is what is known of an attempt when it ends; what it did not get to is
// zero.
type Known struct {
	SpecSHA256  string        `json:"spec_sha256"`
	Verdict     trial.Verdict `json:"verdict"`
	Reason      string        `json:"reason,omitempty"`
	Swept       Swept         `json:"swept"`
	Provisioned Provisioned   `json:"provisioned"`
	Attested    Attested      `json:"attested"`
	Migrated    Migrated      `json:"migrated"`
	Collected   Collected     `json:"collected"`
	Verified    Verified      `json:"verified"`
	TornDown    TornDown      `json:"torn_down"`
}

// ConcludeInput is all that is known of an attempt that has ended.
type ConcludeInput struct {
	Target
	Known Known     `json:"known"`
	Ended time.Time `json:"ended"`
}

// Concluded is the attempt's verdict with its data looked at.
type Concluded struct {
	Verdict trial.Verdict `json:"verdict"`
	Reason  string        `json:"reason,omitempty"`
}
