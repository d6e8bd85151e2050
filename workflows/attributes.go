package workflows

import (
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
)

// Search attributes by which people find campaigns and trials in the Temporal UI.
var (
	attrCampaign = temporal.NewSearchAttributeKeyKeyword("HeliotropeCampaign")
	attrCell     = temporal.NewSearchAttributeKeyKeyword("HeliotropeCell")
	attrStorage  = temporal.NewSearchAttributeKeyKeyword("HeliotropeStorage")
	attrLane     = temporal.NewSearchAttributeKeyKeyword("HeliotropeLane")
	attrPhase    = temporal.NewSearchAttributeKeyKeyword("HeliotropePhase")
	attrVerdict  = temporal.NewSearchAttributeKeyKeyword("HeliotropeVerdict")
	attrRTTMs    = temporal.NewSearchAttributeKeyFloat64("HeliotropeRTTMs")
)

// SearchAttributes are the attributes that a server must have, with their types by name.
var SearchAttributes = map[string]enumspb.IndexedValueType{
	attrCampaign.GetName(): attrCampaign.GetValueType(),
	attrCell.GetName():     attrCell.GetValueType(),
	attrStorage.GetName():  attrStorage.GetValueType(),
	attrLane.GetName():     attrLane.GetValueType(),
	attrPhase.GetName():    attrPhase.GetValueType(),
	attrVerdict.GetName():  attrVerdict.GetValueType(),
	attrRTTMs.GetName():    attrRTTMs.GetValueType(),
}

// RunningQuery finds the running workflows of a campaign: the campaign itself, its lanes
// and its trials.
func RunningQuery(campaign string) string {
	return fmt.Sprintf("ExecutionStatus = 'Running' AND %s = '%s'", attrCampaign.GetName(), campaign)
}
